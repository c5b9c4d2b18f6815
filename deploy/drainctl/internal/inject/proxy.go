package inject

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/manifest"
)

// Where a proxy stands in its pod.
const (
	Regular   = "a regular container"
	Native    = "a native sidecar"
	Admission = "added at admission"
)

// Proxy is the Envoy that was found in a pod.
type Proxy struct {
	Container string // its name; "" when it is added at admission, or when there is none
	Mesh      string // istio, consul, kuma or ""
	Where     string // [Regular], [Native], [Admission] or ""
	Admin     string // where its admin listens; "" when there is no proxy
	Why       string // how it was recognised
}

// Found reports whether there is a proxy.
func (p Proxy) Found() bool { return p.Where != "" }

// Known is a row of the table by which images tell an Envoy.
type Known struct{ Image, Mesh, Admin string }

// KnownImages returns that table: parts of an image's repository, the mesh it belongs to, the admin address it uses.
func KnownImages() []Known {
	return []Known{
		{"istio/proxyv2", "istio", "http://127.0.0.1:15000"},
		{"proxyv2", "istio", "http://127.0.0.1:15000"},
		{"consul-dataplane", "consul", "http://127.0.0.1:19000"},
		{"kuma-dp", "kuma", "http://127.0.0.1:9901"},
		{"kong-mesh-dp", "kuma", "http://127.0.0.1:9901"},
		{"envoy", "", ""},
	}
}

// KnownMark is a row of the table by which a pod asks its mesh for a proxy.
type KnownMark struct{ Key, Value, Mesh, Admin string }

// ExcludeInbound is the annotation with which a mesh leaves inbound ports alone; "" without a mesh. Sources: istio/api annotation;
// consul-k8s control-plane/connect-inject/constants/annotations_and_labels.go; kuma pkg/plugins/runtime/k8s/metadata/annotations.go.
func ExcludeInbound(mesh string) string {
	return map[string]string{
		"istio": "traffic.sidecar.istio.io/excludeInboundPorts", "consul": "consul.hashicorp.com/transparent-proxy-exclude-inbound-ports",
		"kuma": "traffic.kuma.io/exclude-inbound-ports",
	}[mesh]
}

// KnownMarks returns that table of annotations and labels of the pod; Value "" is any value. Kuma reads its key as a label,
// older releases as an annotation too. Sources as for [ExcludeInbound]; ports: consul-dataplane's -envoy-admin-bind-port, kuma's
// DefaultBootstrapParamsConfig.
func KnownMarks() []KnownMark {
	return []KnownMark{
		{"sidecar.istio.io/inject", "true", "istio", "http://127.0.0.1:15000"},
		{"istio.io/rev", "", "istio", "http://127.0.0.1:15000"},
		{"proxy.istio.io/config", "", "istio", "http://127.0.0.1:15000"},
		{"consul.hashicorp.com/connect-inject", "true", "consul", "http://127.0.0.1:19000"},
		{"kuma.io/sidecar-injection", "enabled", "kuma", "http://127.0.0.1:9901"},
		{"kuma.io/sidecar-injection", "true", "kuma", "http://127.0.0.1:9901"},
		{"kuma.io/sidecar-injection", "yes", "kuma", "http://127.0.0.1:9901"},
	}
}

// FindProxy finds the Envoy of a pod: by the name that the user gave, by image, by command, by port, by the annotations
// with which a mesh is asked for one. objects are searched for the proxy's configuration.
func FindProxy(w *manifest.Workload, named string, objects []*manifest.Object) (Proxy, error) {
	var found []Proxy
	for i, c := range slices.Concat(w.Sidecars(), w.Regular()) {
		if p, ok := recognise(c, named); ok && c.Name != AgentContainer {
			p.Where = Regular
			if i < len(w.Sidecars()) {
				p.Where = Native
			}
			p.Admin = cmp.Or(p.Admin, adminOf(w, c, objects))
			found = append(found, p)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return Proxy{}, fmt.Errorf("two containers look like Envoy: %s and %s; say which with --proxy=NAME", found[0].Container, found[1].Container)
	case named == "none":
		return Proxy{}, nil
	case named == "istio" || named == "consul" || named == "kuma":
		i := slices.IndexFunc(KnownMarks(), func(m KnownMark) bool { return m.Mesh == named })
		return Proxy{Mesh: named, Where: Admission, Admin: KnownMarks()[i].Admin, Why: "--proxy=" + named}, nil
	case named != "" && named != "auto":
		return Proxy{}, fmt.Errorf("no container %s for --proxy; name a container, istio, consul, kuma or none", named)
	}
	for _, mark := range KnownMarks() {
		for _, from := range []map[string]string{w.Pod.Labels, w.Pod.Annotations} {
			if value, has := from[mark.Key]; has && (mark.Value == "" || mark.Value == value) {
				return Proxy{Mesh: mark.Mesh, Where: Admission, Admin: mark.Admin, Why: mark.Key + ": " + firstLine(value)}, nil
			}
		}
	}
	return Proxy{}, fmt.Errorf("no Envoy found: no container's image, command or ports look like one, and no label or annotation asks a mesh for one; " +
		"say --proxy=NAME (its container), --proxy=istio (added at admission by the namespace's label) or --proxy=none (timer mode)")
}

func recognise(c *corev1.Container, named string) (Proxy, bool) {
	p := Proxy{Container: c.Name}
	for _, known := range KnownImages() {
		if strings.Contains(repository(c.Image), known.Image) {
			p.Mesh, p.Admin, p.Why = known.Mesh, known.Admin, "image "+c.Image
			break
		}
	}
	line := slices.Concat(c.Command, c.Args)
	switch {
	case c.Name == named:
		p.Why = "--proxy=" + named
	case named != "" && named != "auto" && named != p.Mesh:
		return p, false
	case strings.Contains(c.Name, "shutdown-manager"): // Envoy Gateway and Contour: the companion, not the Envoy
		return p, false
	case p.Why != "":
	case len(line) > 0 && path.Base(line[0]) == "envoy", slices.Contains(line, "--service-node"), slices.Contains(line, "--config-yaml"):
		p.Why = "command " + firstLine(strings.Join(line, " "))
	case slices.ContainsFunc(c.Ports, func(port corev1.ContainerPort) bool {
		return port.ContainerPort == 15006 || port.ContainerPort == 15090 || port.Name == "envoy-admin"
	}):
		p.Why = "its ports"
	default:
		return p, false
	}
	return p, true
}

// repository is the image's name without registry, tag and digest.
func repository(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if at := strings.LastIndexByte(image, ':'); at > strings.LastIndexByte(image, '/') {
		image = image[:at]
	}
	parts := strings.Split(image, "/")
	return strings.Join(parts[max(0, len(parts)-2):], "/")
}

// adminAddress finds the admin's port or socket in an Envoy bootstrap, YAML or JSON.
var adminAddress = regexp.MustCompile(`(?s)\badmin"?:.{0,400}?\b(?:port_value"?:\s*(\d+)|path"?:\s*"?(/[^\s,}"]*\.sock))`)

// adminOf looks for the admin's address in the proxy's arguments and in the ConfigMaps that it mounts.
func adminOf(w *manifest.Workload, c *corev1.Container, objects []*manifest.Object) string {
	texts := slices.Concat(c.Command, c.Args)
	for _, o := range objects {
		data, _ := o.Value["data"].(map[string]any)
		mounted := slices.ContainsFunc(w.Pod.Spec.Volumes, func(v corev1.Volume) bool {
			return v.ConfigMap != nil && v.ConfigMap.Name == o.Name && slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == v.Name })
		})
		for _, one := range data {
			if mounted && o.Kind == "ConfigMap" {
				texts = append(texts, fmt.Sprint(one))
			}
		}
	}
	for _, text := range texts {
		if m := adminAddress.FindStringSubmatch(text); m != nil && m[1] != "" {
			return "http://127.0.0.1:" + m[1]
		} else if m != nil {
			return "unix://" + m[2]
		}
	}
	return ""
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	if runes := []rune(line); len(runes) > 60 {
		line = string(runes[:60]) + "…"
	}
	return line
}
