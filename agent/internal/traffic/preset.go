package traffic

import (
	"fmt"
	"net/url"
	"strings"
)

// Preset is what is known of a server: where it says how much it holds.
type Preset struct {
	Name   string
	Server string // for people
	Kind   string // prometheus, json or text
	Path   string // where no other is given
	Read   string // what stands behind the #
	Self   string // whether the gauge counts the request that reads it
	Source string // where this stands
}

// Presets are the servers that are known, in the order of the documentation.
func Presets() []Preset {
	return []Preset{
		{
			"vllm", "vLLM", "prometheus", "/metrics", `{__name__=~"vllm:num_requests_(running|waiting)"}`,
			"no: it counts inference requests", "https://docs.vllm.ai/en/latest/usage/metrics.html",
		},
		{
			"sglang", "SGLang of 2026 or newer", "text", "/v1/loads?include=core", `"num_(?:running|waiting)_reqs": ?(\d+)`,
			"no: it counts inference requests", "https://github.com/sgl-project/sglang/pull/16976",
		},
		{
			"tgi", "Text Generation Inference", "prometheus", "/metrics", `{__name__=~"tgi_(queue_size|batch_current_size)"}`,
			"no: it counts inference requests", "https://huggingface.co/docs/text-generation-inference/reference/metrics",
		},
		{
			"llama-cpp", "llama.cpp server with --metrics", "prometheus", "/metrics", `{__name__=~"llamacpp:requests_(processing|deferred)"}`,
			"no: it counts inference requests", "https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md",
		},
		{
			"litellm", "LiteLLM proxy with the callback prometheus", "prometheus", "/metrics/", `litellm_in_flight_requests - 1`,
			"yes", "https://docs.litellm.ai/docs/proxy/prometheus",
		},
		{
			"spring", "Spring Boot 3 or newer with Actuator and Micrometer", "prometheus", "/actuator/prometheus", `{__name__=~"http_server_requests_active_seconds_(active_|g)?count"} - 1`,
			"yes", "https://docs.spring.io/spring-boot/reference/actuator/metrics.html",
		},
		{
			"uvicorn", "FastAPI or Starlette on uvicorn, prometheus-fastapi-instrumentator with should_instrument_requests_inprogress", "prometheus", "/metrics", `http_requests_inprogress - 1`,
			"yes", "https://github.com/trallnag/prometheus-fastapi-instrumentator",
		},
		{
			"starlette-exporter", "FastAPI or Starlette with starlette_exporter", "prometheus", "/metrics", `starlette_requests_in_progress - 1`,
			"yes", "https://github.com/stephenhillier/starlette_exporter/issues/26",
		},
		{
			"starlette-prometheus", "FastAPI or Starlette with starlette-prometheus", "prometheus", "/metrics", `starlette_requests_in_progress{path_template!="/metrics"}`,
			"yes; the selector leaves it out", "https://github.com/perdy/starlette-prometheus",
		},
		{
			"gunicorn", "gunicorn with the lines below", "prometheus", "/metrics", `gunicorn_requests_in_flight`,
			"no: the master answers", "https://docs.gunicorn.org/en/stable/settings.html#server-hooks",
		},
		{
			"django", "Django with django-prometheus", "prometheus", "/metrics", `django_http_requests_total_by_view_transport_method_total{view!="prometheus-django-metrics"} - django_http_responses_total_by_status_view_method_total{view!="prometheus-django-metrics"}`,
			"yes; the selector leaves it out", "https://github.com/django-commons/django-prometheus",
		},
		{
			"prom-client", "Node with prom-client and the lines below", "prometheus", "/metrics", `http_requests_in_flight - 1`,
			"yes", "https://github.com/siimon/prom-client",
		},
		{
			"nginx", "nginx stub_status", "text", "/stub_status", `Reading: (\d+) Writing: (\d+) - 1`,
			"yes", "https://nginx.org/en/docs/http/ngx_http_stub_status_module.html",
		},
		{
			"apache", "Apache httpd mod_status", "text", "/server-status?auto", `BusyWorkers: (\d+) - 1`,
			"yes", "https://httpd.apache.org/docs/2.4/mod/mod_status.html",
		},
		{
			"php-fpm", "PHP-FPM pm.status_path", "text", "/status", `(?m)^(?:listen queue|active processes): +(\d+)$ - 1`,
			"yes", "https://www.php.net/manual/en/fpm.status.php",
		},
		{
			"puma", "Puma 6.6 or newer, its control server", "text", "/stats", `"busy_threads": ?(\d+)`,
			"no: another server answers", "https://github.com/puma/puma/blob/master/docs/stats.md",
		},
		{
			"sidekiq", "Sidekiq with the lines below", "prometheus", "/metrics", `sidekiq_jobs_in_flight`,
			"no: it counts jobs", "https://github.com/sidekiq/sidekiq/wiki/Middleware",
		},
	}
}

// presetKind reads NAME@URL. The URL's path and query win over the preset's.
func presetKind(s string) (kind, error) {
	name, address, ok := strings.Cut(s, "@")
	if !ok {
		return kind{}, fmt.Errorf("preset:NAME@URL has no @")
	}
	var names []string
	for _, p := range Presets() {
		if p.Name != name {
			names = append(names, p.Name)
			continue
		}
		u, fragment, err := splitURL(address)
		if err != nil {
			return kind{}, err
		}
		if fragment != "" {
			return kind{}, fmt.Errorf("a preset has its own selector: leave the # out, or write %s:URL#…", p.Kind)
		}
		return parseKind(p.Kind + ":" + p.at(u))
	}
	return kind{}, fmt.Errorf("no preset %q: want %s", name, strings.Join(names, ", "))
}

func (p *Preset) at(u *url.URL) string {
	full := *u
	if full.Path == "" || full.Path == "/" {
		path, query, _ := strings.Cut(p.Path, "?")
		full.Path = path
		if full.RawQuery == "" {
			full.RawQuery = query
		}
	}
	return full.String() + "#" + p.Read
}
