package lint

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"istio.io/api/annotation"
	networking "istio.io/api/networking/v1alpha3"
	security "istio.io/api/security/v1beta1"
	telemetry "istio.io/api/telemetry/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/inject"
	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/manifest"
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

func holdLost(_ *set, p *pod, hit hitFunc) {
	c := p.Container("istio-proxy")
	native := slices.ContainsFunc(p.Sidecars(), func(c *corev1.Container) bool { return c.Name == "istio-proxy" }) // kubelet waits for those
	if c == nil || native || p.proxySettings()["holdApplicationUntilProxyStarts"] != true {
		return
	}
	if lifecycle := manifest.Find(c, "lifecycle"); lifecycle != nil && manifest.Find(lifecycle, "postStart") == nil {
		hit(lifecycle, "the lifecycle of istio-proxy replaces the postStart hook that holds the app back")
	}
}

func exitOnZero(_ *set, p *pod, hit hitFunc) {
	metadata, _ := p.proxySettings()["proxyMetadata"].(map[string]any)
	if fmt.Sprint(metadata["EXIT_ON_ZERO_ACTIVE_CONNECTIONS"]) == "true" {
		hit(manifest.Find(p.Template, "metadata", "annotations", proxyConfig), "EXIT_ON_ZERO_ACTIVE_CONNECTIONS waits for connections, and kept-alive ones do not end")
	}
}

func uid1337(p *pod, c *corev1.Container, hit hitFunc) {
	if c.Name == "istio-proxy" {
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

type peerAuthentication struct {
	Spec struct {
		Selector *metav1.LabelSelector `json:"selector"`
		MTLS     mtls                  `json:"mtls"`
		Ports    map[string]mtls       `json:"portLevelMtls"`
	} `json:"spec"`
}

type mtls struct {
	Mode string `json:"mode"`
}

// strictMTLS judges the hooks of pods in the mesh by a PeerAuthentication that asks for STRICT.
func strictMTLS(s *set, o *manifest.Object, hit hitFunc) {
	var policy peerAuthentication
	if o.Into(&policy) != nil || policy.Spec.MTLS.Mode != "STRICT" {
		return
	}
	selector := policy.Spec.Selector
	if selector == nil {
		selector = &metav1.LabelSelector{}
	}
	for _, object := range s.objects {
		p := s.pods[object]
		if p == nil || p.proxy.Mesh != "istio" || p.Pod.Annotations["inject.istio.io/templates"] == "gateway" { // nothing is redirected in a gateway
			continue
		}
		if o.Namespace != "istio-system" && !slices.Contains(s.selected(o.Namespace, selector), p) {
			continue
		}
		for _, c := range p.lasting() {
			h := hookOf(c)
			if h == nil || h.HTTPGet == nil {
				continue
			}
			port := strconv.Itoa(int(h.HTTPGet.Port.IntVal))
			if mode := policy.Spec.Ports[port].Mode; mode == "PERMISSIVE" || mode == "DISABLE" {
				continue
			}
			if !slices.Contains(strings.Split(p.Pod.Annotations[inject.ExcludeInbound("istio")], ","), port) {
				hit(nil, "%s %s: kubelet's plain call of the hook of %s on port %s is refused", p.Kind, p.Name, c.Name, port)
			}
		}
	}
}
