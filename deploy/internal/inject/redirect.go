package inject

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
	"github.com/drain-agent/drain-agent/deploy/internal/roles"
)

// Where Consul's injector writes which traffic it redirects: a variable of its init container, or with its CNI plugin an annotation.
// Source: consul-k8s control-plane/connect-inject/webhook and sdk/iptables.Config.
const consulRedirect, consulRedirectAnnotation = "CONSUL_REDIRECT_TRAFFIC_CONFIG", "consul.hashicorp.com/redirect-traffic-config"

// Redirection is what changes in an init container that redirects the pod's traffic and was written before we came: the ports that
// kubelet asks are left out, as the mesh's annotation would have done had it come earlier.
type Redirection struct {
	Container string
	Args      []string // of istio-iptables; none: they stay
	Variable  string   // its name; "": none changes
	Value     string
}

// redirect finds those init containers. Kuma lets ports through that are no inbound of its dataplane, so its own needs no change.
func (p *Plan) redirect(w *manifest.Workload) {
	for i := range w.Pod.Spec.InitContainers {
		c := &w.Pod.Spec.InitContainers[i]
		switch p.Proxy.Mesh {
		case "istio":
			at := slices.Index(c.Args, "-d")
			if slices.Contains(c.Args, "istio-iptables") && at >= 0 && at+1 < len(c.Args) {
				args := slices.Clone(c.Args)
				args[at+1] = withPorts(args[at+1], p.Exclude)
				p.Redirections = append(p.Redirections, Redirection{Container: c.Name, Args: args})
			}
		case "consul":
			if j := slices.IndexFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == consulRedirect }); j >= 0 {
				if value, ok := withConsulPorts(c.Env[j].Value, p.Exclude); ok {
					p.Redirections = append(p.Redirections, Redirection{Container: c.Name, Variable: consulRedirect, Value: value})
				}
			}
		}
	}
}

// redirected returns what changes in a container, nil where nothing does.
func (p *Plan) redirected(container string) *Redirection {
	if i := slices.IndexFunc(p.Redirections, func(r Redirection) bool { return r.Container == container }); i >= 0 {
		return &p.Redirections[i]
	}
	return nil
}

// redirectionFixed reports whether Istio's injector has already written which ports are redirected: annotations come too late then.
func (p *Plan) redirectionFixed(w *manifest.Workload) bool {
	return p.Proxy.Mesh == "istio" && slices.ContainsFunc(w.Pod.Spec.InitContainers, func(c corev1.Container) bool {
		words := slices.Concat(c.Command, c.Args)
		return slices.Contains(words, "istio-iptables") && slices.Contains(words, "-d")
	})
}

// withPorts adds ports to a list with commas; "*" is all of them.
func withPorts(list string, ports []int32) string {
	fields := strings.Split(strings.ReplaceAll(list, " ", ""), ",")
	for _, port := range ports {
		if text := strconv.Itoa(int(port)); !slices.Contains(fields, text) && !slices.Contains(fields, "*") {
			list = strings.TrimPrefix(list+","+text, ",")
		}
	}
	return list
}

// withConsulPorts adds ports to Consul's configuration of a redirection; false where it cannot be read.
func withConsulPorts(text string, ports []int32) (string, bool) {
	var config map[string]any
	if json.Unmarshal([]byte(text), &config) != nil || config == nil {
		return "", false
	}
	list, _ := config["ExcludeInboundPorts"].([]any)
	for _, port := range ports {
		if text := strconv.Itoa(int(port)); !slices.Contains(list, any(text)) {
			list = append(list, text)
		}
	}
	config["ExcludeInboundPorts"] = list
	out, err := json.Marshal(config)
	return string(out), err == nil
}

// proxyToCome reports whether the pod's Envoy is promised and not there: a mesh adds it, or fills the container that names it.
func proxyToCome(w *manifest.Workload, e roles.Envoy) bool {
	c := w.Named(e.Container)
	return e.Where == Admission || e.Found() && c != nil && c.Image == "auto"
}
