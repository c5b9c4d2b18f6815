package lint

import (
	"cmp"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"istio.io/api/annotation"
	networking "istio.io/api/networking/v1alpha3"
	security "istio.io/api/security/v1beta1"
	telemetry "istio.io/api/telemetry/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/drain-agent/drain-agent/deploy/internal/inject"
	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
	"github.com/drain-agent/drain-agent/deploy/internal/roles"
)

const proxyConfig = "proxy.istio.io/config"

// istioAnnotation knows what istio.io/api knows. Only prefixes with an annotation of pods count as Istio's.
func istioAnnotation(_ *set, p *pod, hit hitFunc) {
	known, prefixes := map[string]bool{}, map[string]bool{"sidecar.istio.io": true}
	for _, one := range annotation.AllResourceAnnotations() {
		prefix, _, _ := strings.Cut(one.Name, "/")
		known[one.Name], prefixes[prefix] = true, prefixes[prefix] || slices.Contains(one.Resources, annotation.Pod)
	}
	for _, key := range slices.Sorted(maps.Keys(p.Pod.Annotations)) {
		prefix, name, _ := strings.Cut(key, "/")
		if !prefixes[prefix] || known[key] {
			continue
		}
		hint := ""
		if name == "holdApplicationUntilProxyStarts" || name == "terminationDrainDuration" {
			hint = fmt.Sprintf(`; write %s: '{"%s": …}'`, proxyConfig, name)
		}
		hit(manifest.Find(p.Template, "metadata", "annotations", key), "Istio knows no annotation %s%s", key, hint)
	}
}

// istioSpec returns an empty spec of one of Istio's kinds; nil for others.
func istioSpec(kind string) proto.Message {
	switch kind {
	case "DestinationRule":
		return &networking.DestinationRule{}
	case "VirtualService":
		return &networking.VirtualService{}
	case "Sidecar":
		return &networking.Sidecar{}
	case "EnvoyFilter":
		return &networking.EnvoyFilter{}
	case "PeerAuthentication":
		return &security.PeerAuthentication{}
	case "Telemetry":
		return &telemetry.Telemetry{}
	}
	return nil
}

// unknownField finds the name in protojson's error, whose spaces are not always the same.
var unknownField = regexp.MustCompile(`unknown\sfield\s"(.*)"$`)

func istioField(_ *set, o *manifest.Object, hit hitFunc) {
	if !strings.Contains(o.APIVersion, "istio.io/") {
		return
	}
	if o.Kind == "EnvoyFilter" && o.APIVersion != "networking.istio.io/v1alpha3" {
		hit(manifest.Find(o.Node, "apiVersion"), "EnvoyFilter exists as networking.istio.io/v1alpha3 only")
	}
	spec := istioSpec(o.Kind)
	if spec == nil || o.Value["spec"] == nil {
		return
	}
	text, err := json.Marshal(o.Value["spec"])
	if err == nil {
		err = protojson.Unmarshal(text, spec)
	}
	if err == nil {
		return
	}
	if m := unknownField.FindStringSubmatch(err.Error()); m != nil {
		hit(manifest.FindDeep(manifest.Find(o.Node, "spec"), m[1]), "%s has no field %s", o.Kind, m[1])
	}
}

// proxySettings reads the annotation proxy.istio.io/config; nothing of it where it is no YAML.
func (p *pod) proxySettings() map[string]any {
	var settings map[string]any
	if yaml.Unmarshal([]byte(p.Pod.Annotations[proxyConfig]), &settings) != nil {
		return nil
	}
	return settings
}

// holdLost judges a postStart of one's own. Istio's injector puts a user's container over its own field by field: a preStop
// leaves Istio's postStart in place, another postStart takes its place.
func holdLost(_ *set, p *pod, hit hitFunc) {
	c := p.Named("istio-proxy")
	if c == nil || slices.Contains(p.Sidecars(), c) || c.Lifecycle == nil || c.Lifecycle.PostStart == nil || p.proxySettings()["holdApplicationUntilProxyStarts"] != true {
		return // of native sidecars kubelet waits for the start
	}
	if h := c.Lifecycle.PostStart; h.Exec == nil || !strings.Contains(strings.Join(h.Exec.Command, " "), "pilot-agent wait") {
		hit(manifest.Find(p.Container("istio-proxy"), "lifecycle", "postStart"), "this postStart of istio-proxy takes the place of the one that holds the app back")
	}
}

const exitOnZeroSetting = "EXIT_ON_ZERO_ACTIVE_CONNECTIONS"

// exitOnZero looks where the setting is asked for and, in pods that are injected already, where it arrived.
func exitOnZero(_ *set, p *pod, hit hitFunc) {
	at := manifest.Find(p.Template, "metadata", "annotations", proxyConfig)
	metadata, _ := p.proxySettings()["proxyMetadata"].(map[string]any)
	asked := fmt.Sprint(metadata[exitOnZeroSetting]) == "true"
	c := p.Named("istio-proxy")
	if c != nil {
		for _, env := range c.Env {
			if env.Name == exitOnZeroSetting && env.Value == "true" {
				asked, at = true, p.Container(c.Name)
			}
		}
	}
	switch {
	case !asked:
	case c != nil && slices.Contains(p.Sidecars(), c):
		hit(at, "%s is ignored in a native sidecar", exitOnZeroSetting)
	default:
		hit(at, "%s waits for connections, and kept-alive ones do not end", exitOnZeroSetting)
	}
}

// drainOverGrace compares how long a mesh's proxy drains after SIGTERM with the time that it has.
func drainOverGrace(_ *set, p *pod, hit hitFunc) {
	for where, said := range map[string]any{
		proxyConfig:                  p.proxySettings()["terminationDrainDuration"],
		"kuma.io/sidecar-drain-time": p.Pod.Annotations["kuma.io/sidecar-drain-time"],
	} {
		text, _ := said.(string)
		if d, err := time.ParseDuration(text); err == nil && d >= p.grace() {
			hit(manifest.Find(p.Template, "metadata", "annotations", where), "%s: the proxy drains for %v of a grace period of %v", where, d, p.grace())
		}
	}
}

func uid1337(p *pod, c *corev1.Container, hit hitFunc) {
	if p.proxy.Mesh != "istio" || p.is(c, roles.Proxy) {
		return
	}
	var user, group *int64
	if s := p.spec.SecurityContext; s != nil {
		user, group = s.RunAsUser, s.RunAsGroup
	}
	if s := c.SecurityContext; s != nil {
		user, group = cmp.Or(s.RunAsUser, user), cmp.Or(s.RunAsGroup, group)
	}
	if user != nil && *user == 1337 || group != nil && *group == 1337 {
		hit(nil, "runs as 1337, the proxy's own user or group")
	}
}

// strictMTLS judges what kubelet asks of pods in the mesh that a PeerAuthentication asks for STRICT. Istio turns HTTP hooks and
// probes towards its own agent, which kubelet may ask, unless it is told not to.
func strictMTLS(s *set, o *manifest.Object, hit hitFunc) {
	for _, object := range s.objects {
		p := s.pods[object]
		if p == nil || p.proxy.Mesh != "istio" || isGateway(p) || p.Pod.Annotations["sidecar.istio.io/rewriteAppHTTPProbers"] != "false" {
			continue // nothing is redirected in a gateway
		}
		for _, c := range p.lasting() {
			for what, get := range plainCalls(c) {
				number := portNumber(c, get.Port)
				port := strconv.Itoa(number)
				if p.MutualTLS(o, int32(number)) == "STRICT" && !p.is(c, roles.Proxy) && !slices.Contains(strings.Split(p.Pod.Annotations[inject.ExcludeInbound("istio")], ","), port) {
					hit(nil, "%s %s: kubelet's plain call for the %s of %s on port %s is refused", p.Kind, p.Name, what, c.Name, port)
				}
			}
		}
	}
}

// plainCalls returns what kubelet calls by HTTP in a container, in a fixed order.
func plainCalls(c *corev1.Container) iter.Seq2[string, *corev1.HTTPGetAction] {
	return func(yield func(string, *corev1.HTTPGetAction) bool) {
		if h := hookOf(c); h != nil && h.HTTPGet != nil && !yield("preStop hook", h.HTTPGet) {
			return
		}
		for _, one := range []struct {
			name  string
			probe *corev1.Probe
		}{{"startupProbe", c.StartupProbe}, {"readinessProbe", c.ReadinessProbe}, {"livenessProbe", c.LivenessProbe}} {
			if one.probe != nil && one.probe.HTTPGet != nil && !yield(one.name, one.probe.HTTPGet) {
				return
			}
		}
	}
}

func portNumber(c *corev1.Container, port intstr.IntOrString) int {
	for _, own := range c.Ports {
		if port.StrVal != "" && own.Name == port.StrVal {
			return int(own.ContainerPort)
		}
	}
	return port.IntValue()
}
