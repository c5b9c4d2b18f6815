package inject_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/drain-agent/drain-agent/deploy/internal/inject"
)

// A pod without an Envoy gets where its clients come in and how its servers say what they hold, by what its manifest shows; what it does
// not show is a question.
func TestPlanWithoutAProxy(t *testing.T) {
	const gpu = "{name: s, image: \"registry.example/gpu:1\", ports: [{containerPort: 8000}], "
	const vllm = "{name: s, image: \"vllm/vllm-openai:v1\", ports: [{containerPort: 8000}], "
	const web = "{name: web, image: \"registry.example/web:1\", ports: [{containerPort: 8080}]}"
	for name, one := range map[string]struct {
		containers string
		sources    []string
		extra      []string
		args       string // that must be there
		asks       string // that the error must name
	}{
		"vLLM":                                 {containers: "{name: s, image: \"vllm/vllm-openai:v1\", ports: [{containerPort: 8000}]}", args: "--proxy=none --watch=app=port:8000 --app-source=app=preset:vllm@http://127.0.0.1:8000"},
		"vLLM by its command":                  {containers: "{name: s, image: \"registry.example/gpu:1\", command: [sh, -c, \"exec vllm serve some/model\"], ports: [{containerPort: 8000}]}", args: "--app-source=app=preset:vllm@http://127.0.0.1:8000"},
		"SGLang":                               {containers: "{name: s, image: \"lmsysorg/sglang:v1\", command: [python3, -m, sglang.launch_server], ports: [{containerPort: 30000}]}", args: "--app-source=app=preset:sglang@http://127.0.0.1:30000"},
		"SGLang with a key":                    {containers: "{name: s, image: \"lmsysorg/sglang:v1\", command: [python3, -m, sglang.launch_server, --api-key, s3cr3t], ports: [{containerPort: 30000}]}", asks: "with --api-key"},
		"llama.cpp":                            {containers: "{name: s, image: \"ghcr.io/ggml-org/llama.cpp:server\", args: [--metrics], ports: [{containerPort: 8080}]}", args: "--app-source=app=preset:llama-cpp@http://127.0.0.1:8080"},
		"TGI":                                  {containers: "{name: s, image: \"ghcr.io/huggingface/text-generation-inference:3\", ports: [{containerPort: 80}]}", args: "--app-source=app=preset:tgi@http://127.0.0.1:80"},
		"a router that names vLLM":             {containers: gpu + "command: [python, -m, router, --backend, vllm]}", asks: "nothing says how many"},
		"a script that installs vLLM":          {containers: gpu + "command: [sh, -c, \"pip install vllm && python server.py\"]}", asks: "nothing says how many"},
		"a client of vLLM":                     {containers: gpu + "command: [vllm, bench, serve]}", asks: "nothing says how many"},
		"a path that names llama.cpp":          {containers: gpu + "args: [--metrics, --upstream, \"http://x/llama-server\"]}", asks: "nothing says how many"},
		"vLLM's image for something else":      {containers: vllm + "command: [python3, server.py]}", asks: "nothing says how many"},
		"vLLM as Python's module":              {containers: gpu + "command: [env, A=b, /usr/bin/python3, -u, -m, vllm.entrypoints.openai.api_server, --port=8000]}", args: "--app-source=app=preset:vllm@http://127.0.0.1:8000"},
		"vLLM without figures":                 {containers: vllm + "args: [--model, x, --disable_log_stats]}", asks: "with --disable-log-stats"},
		"vLLM with TLS":                        {containers: vllm + "args: [--ssl-keyfile=/k, --ssl-certfile=/c]}", asks: "with --ssl-keyfile"},
		"vLLM on another port":                 {containers: vllm + "args: [--port, \"9000\"]}", asks: "with --port"},
		"SGLang's image runs what it is told":  {containers: "{name: s, image: \"lmsysorg/sglang:v1\", args: [python3, -m, sglang.launch_server, --enable-metrics], ports: [{containerPort: 30000}]}", args: "--app-source=app=preset:sglang@http://127.0.0.1:30000"},
		"llama.cpp's tools":                    {containers: "{name: s, image: \"ghcr.io/ggml-org/llama.cpp:full\", args: [--metrics], ports: [{containerPort: 8080}]}", asks: "nothing says how many"},
		"llama.cpp with a key":                 {containers: "{name: s, image: \"ghcr.io/ggml-org/llama.cpp:server-cuda\", args: [--metrics], env: [{name: LLAMA_API_KEY, value: s3cr3t}], ports: [{containerPort: 8080}]}", asks: "with LLAMA_API_KEY"},
		"a source for another container":       {containers: "{name: web, image: \"a:1\", ports: [{containerPort: 8080}]}\n  - {name: jobs, image: \"jobs:1\", command: [celery, worker]}", sources: []string{"jobs=none"}, asks: "container web: nothing says how many"},
		"a source by the agent's name":         {containers: web, sources: []string{"app=json:http://127.0.0.1:8080#/a=b"}, args: "--app-source=app=json:http://127.0.0.1:8080#/a=b"},
		"a source with = behind its kind":      {containers: web, sources: []string{"prometheus:http://127.0.0.1:8080/metrics#a{b=\"c\"}"}, args: "--watch=app=port:8080"},
		"nothing says what it holds":           {containers: web, asks: "nothing says how many requests it holds"},
		"the user says":                        {containers: web, sources: []string{"preset:prom-client@http://127.0.0.1:8080"}, args: "--watch=app=port:8080 --app-source=preset:prom-client@http://127.0.0.1:8080"},
		"nothing counts, and the user says so": {containers: web, sources: []string{"none"}, args: "--watch=app=port:8080 --app-source=none"},
		"no port":                              {containers: "{name: web, image: \"web:1\"}", sources: []string{"none"}, asks: "declares no port where it serves"},
		"no port, the user's word":             {containers: "{name: web, image: \"web:1\"}", sources: []string{"none"}, extra: []string{"--watch=app=port:80"}, args: "--watch=app=port:80"},
		"probes come there too":                {containers: "{name: web, image: \"web:1\", ports: [{name: http, containerPort: 8080}], readinessProbe: {tcpSocket: {port: http}, periodSeconds: 5}}", sources: []string{"none"}, args: "--background=0.2"},
		"two that serve":                       {containers: web + "\n  - {name: model, image: \"vllm/vllm-openai:v1\", ports: [{containerPort: 8000}]}", sources: []string{"web=socket:8080"}, args: "--watch=web=port:8080 --watch=model=port:8000 --app-source=model=preset:vllm@http://127.0.0.1:8000 --app-source=web=socket:8080"},
		"a worker alone":                       {containers: "{name: jobs, image: \"jobs:1\", command: [celery, worker]}", args: "--outlives-me=app --proxy=none --propagation=0s --quiet-max=0s --workers=app"},
	} {
		t.Run(name, func(t *testing.T) {
			o := options("")
			o.Proxy, o.AppSource, o.AgentArgs = "none", one.sources, one.extra
			_, reports, err := inject.File("pod", []byte("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - "+one.containers+"\n"), o)
			if one.asks != "" {
				if err == nil || !strings.Contains(err.Error(), one.asks) {
					t.Errorf("error %v, want one with %q", err, one.asks)
				}
				return
			}
			if err != nil || len(reports) != 1 || reports[0].Plan == nil {
				t.Fatalf("%v, %+v", err, reports)
			}
			left := reports[0].Plan.Args
			for want := range strings.FieldsSeq(one.args) {
				i := slices.Index(left, want)
				if i < 0 {
					t.Fatalf("no %s, in this order, in %q", want, reports[0].Plan.Args)
				}
				left = left[i+1:]
			}
			for _, arg := range reports[0].Plan.Args {
				if strings.HasPrefix(arg, "--envoy-admin") || strings.Contains(arg, "proxy=2s") {
					t.Errorf("%s, of what is not there", arg)
				}
			}
		})
	}
}

// The grace period holds the longest request, by flag or by annotation.
func TestGracePeriodHoldsTheLongestRequest(t *testing.T) {
	for annotation, want := range map[string]string{"x: y": "--grace-period=30s", "drain-agent.io/longest-request: 2m": "--grace-period=130s"} {
		o := options("")
		o.Proxy, o.AppSource = "none", []string{"none"}
		_, reports, err := inject.File("pod", []byte("apiVersion: v1\nkind: Pod\nmetadata: {name: p, annotations: {"+annotation+"}}\nspec:\n  containers:\n  - {name: web, image: \"web:1\", ports: [{containerPort: 80}]}\n"), o)
		if err != nil || !slices.Contains(reports[0].Plan.Args, want) {
			t.Errorf("%s: %v, %+v, want %s", annotation, err, reports, want)
		}
	}
}
