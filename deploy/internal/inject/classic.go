package inject

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
	"github.com/drain-agent/drain-agent/deploy/internal/roles"
)

// What Istio calls its proxy, and its annotations. A pilot-agent in a regular container closes port 15020 at its SIGTERM, and
// rewritten hooks and probes lead through that port: so rewriting is off, and what kubelet asks is not redirected.
const (
	istioProxy     = "istio-proxy"
	nativeSidecar  = "sidecar.istio.io/nativeSidecar"
	rewriteProbers = "sidecar.istio.io/rewriteAppHTTPProbers"
)

// istioShape decides whether Istio's sidecar is, or will be, a regular container. Istio makes it a native one by default on
// Kubernetes 1.33 and later, so only --shape=classic or the annotation of pod or namespace says otherwise.
func (p *Plan) istioShape(w *manifest.Workload, objects []*manifest.Object, o Options) {
	stub := w.Named(p.Proxy.Container)
	switch {
	case p.Proxy.Mesh != "istio" || p.Proxy.Where == Native || gateway(w, stub):
		return
	case stub != nil && stub.Image != "auto": // Istio was here before
		p.Classic = true
		return
	}
	said := w.Pod.Annotations[nativeSidecar]
	for _, one := range objects {
		if one.Kind == "Namespace" && one.Name == w.Namespace {
			said = cmp.Or(said, one.Annotations[nativeSidecar])
		}
	}
	p.Classic = said == "false" || said == "" && o.Shape == "classic"
	switch {
	case p.Classic:
		p.Stub, p.Restricted = stub == nil, hardened(w)
		p.Proxy.Container, p.Proxy.Where = istioProxy, Regular
		p.Native = p.Native && o.Shape == "native"
	default: // what the pod says of istio-proxy is merged into a native sidecar, which has a hook
		p.Proxy.Where, p.Assumed = Admission, said == ""
	}
}

// gateway reports whether istio-proxy is no sidecar but a gateway, where nothing is redirected.
func gateway(w *manifest.Workload, proxy *corev1.Container) bool {
	return strings.Contains(w.Pod.Annotations["inject.istio.io/templates"], "gateway") || proxy != nil && slices.Contains(proxy.Args, "router")
}

// hardened reports whether all containers refuse what the restricted level of Pod Security refuses; the one that is added does too.
// Istio's proxy runs as root where it intercepts with TPROXY.
func hardened(w *manifest.Workload) bool {
	return w.Pod.Annotations["sidecar.istio.io/interceptionMode"] != "TPROXY" && !slices.ContainsFunc(w.Containers(), func(c *corev1.Container) bool {
		s := c.SecurityContext
		return s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation
	})
}

// call is something that kubelet asks a container by the network.
type call struct {
	what  string
	port  int32
	probe *corev1.Probe // nil for a hook
}

// calls are what kubelet asks a container: its probes, and the hooks that it keeps.
func (p *Plan) calls(c *corev1.Container) (out []call) {
	add := func(what string, get *corev1.HTTPGetAction, tcp *corev1.TCPSocketAction, probe *corev1.Probe) {
		if get != nil && get.Host == "" {
			out = append(out, call{what, portOf(c, get.Port), probe})
		} else if tcp != nil && tcp.Host == "" {
			out = append(out, call{what, portOf(c, tcp.Port), probe})
		}
	}
	for _, one := range []struct {
		what  string
		probe *corev1.Probe
	}{{"startupProbe", c.StartupProbe}, {"readinessProbe", c.ReadinessProbe}, {"livenessProbe", c.LivenessProbe}} {
		if one.probe != nil && one.probe.GRPC != nil {
			out = append(out, call{one.what, one.probe.GRPC.Port, one.probe})
		} else if one.probe != nil {
			add(one.what, one.probe.HTTPGet, one.probe.TCPSocket, one.probe)
		}
	}
	if l := c.Lifecycle; l != nil && l.PostStart != nil {
		add("postStart", l.PostStart.HTTPGet, l.PostStart.TCPSocket, nil)
	}
	if hasHook(c) && p.hookName(c.Name) == "" { // else ours takes its place, and runs it inside the pod
		add("preStop", c.Lifecycle.PreStop.HTTPGet, c.Lifecycle.PreStop.TCPSocket, nil)
	}
	return out
}

// excluded decides which inbound ports Istio is to leave alone: the agent's, and in a classic pod all that kubelet asks. A port where
// requests come in stays behind the proxy: without it, the mutual TLS of their senders would reach the app. Probes of such a port are
// asked inside the container, for kubelet's plain ones would be refused, or where only a connection is asked for always succeed.
func (p *Plan) excluded(w *manifest.Workload, objects []*manifest.Object) {
	p.Exclude = []int32{p.Port}
	if !p.Classic {
		return
	}
	if w.Pod.Annotations[rewriteProbers] == "true" {
		p.note(rewriteProbers + " becomes false: rewritten hooks and probes lead through a port that a classic istio-proxy closes first")
	}
	serves := p.served(w, objects)
	ports := map[int32]bool{p.Port: true, 0: true, 15020: true, 15021: true, 15090: true} // Istio's own it leaves alone by itself
	var behind, moved []string
	p.Probes = map[string][]execProbe{}
	for _, c := range w.Containers() {
		if c.Name == p.Proxy.Container {
			continue
		}
		for _, one := range p.calls(c) {
			said := fmt.Sprintf("the %s of %s asks port %d", one.what, c.Name, one.port)
			switch {
			case serves[one.port] && one.probe != nil:
				p.Probes[c.Name] = append(p.Probes[c.Name], inside(one.what, one.port, one.probe))
				moved = append(moved, said)
			case serves[one.port]:
				behind = append(behind, said)
			case !ports[one.port]:
				ports[one.port] = true
				p.Exclude = append(p.Exclude, one.port)
			}
		}
	}
	slices.Sort(p.Exclude[1:])
	p.Binary = p.Binary || len(moved) > 0
	const where = ", where requests come in: that port stays behind istio-proxy, and under STRICT mutual TLS "
	if len(moved) > 0 {
		p.note(strings.Join(moved, ", ") + where + "kubelet's plain probe is refused: drain-agent probe asks inside the container instead; to let kubelet ask, give probes a port of their own")
	}
	if len(behind) > 0 {
		p.note(strings.Join(behind, ", ") + where + "kubelet's plain call is refused: give it a port of its own, or make it an exec")
	}
}

// served are the ports where requests come in.
func (p *Plan) served(w *manifest.Workload, objects []*manifest.Object) map[int32]bool {
	out := map[int32]bool{}
	for _, c := range p.Roles.Of(roles.Serving) {
		if c.Port > 0 {
			out[c.Port] = true
		}
	}
	for _, s := range w.Services(objects) {
		for _, port := range s.Spec.Ports {
			target := port.TargetPort
			if target == (intstr.IntOrString{}) {
				target = intstr.FromInt32(port.Port)
			}
			for _, c := range w.Containers() {
				if n := portOf(c, target); n > 0 && !quiet(port.Name) && !quiet(target.StrVal) {
					out[n] = true
				}
			}
		}
	}
	return out
}

// quiet reports whether a port's name says that only kubelet and monitoring call it.
func quiet(name string) bool {
	return slices.ContainsFunc(strings.Split(name, "-"), func(word string) bool {
		return slices.Contains([]string{"metrics", "prometheus", "health", "healthz", "probe", "probes", "status", "admin", "mgmt", "management"}, word)
	})
}

// meshAnnotations keep kubelet's calls out of the mesh's redirection, or its mutual TLS would refuse them.
func (p *Plan) meshAnnotations(w *manifest.Workload) (keys [][2]string) {
	set := func(key, value string) {
		if key != "" && w.Pod.Annotations[key] != value {
			keys = append(keys, [2]string{key, value})
		}
	}
	exclude := ExcludeInbound(p.Proxy.Mesh)
	if !p.redirectionFixed(w) {
		set(exclude, withPorts(w.Pod.Annotations[exclude], p.Exclude))
	}
	if fixed, ok := withConsulPorts(w.Pod.Annotations[consulRedirectAnnotation], p.Exclude); ok && p.Proxy.Mesh == "consul" {
		set(consulRedirectAnnotation, fixed)
	}
	if p.Proxy.Mesh == "istio" && p.Proxy.Where == Regular && (p.Classic || w.Pod.Annotations[rewriteProbers] == "") {
		set(rewriteProbers, "false")
	}
	if c := w.Named(p.Proxy.Container); p.Classic && (c == nil || c.Image == "auto") {
		set(nativeSidecar, "false") // what the hook on istio-proxy relies on
	}
	return keys
}
