package lint

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/manifest"
)

const (
	excludeInbound = "traffic.sidecar.istio.io/excludeInboundPorts"
	proxyConfig    = "proxy.istio.io/config"
)

// IstioAnnotations returns the annotations of pods that Istio knows, without their prefixes (istio/api
// annotation/annotations.yaml and what releases to 1.31 added).
func IstioAnnotations() map[string][]string {
	return map[string][]string{
		"sidecar.istio.io/": {
			"agentLogLevel", "bootstrapOverride", "componentLogLevel", "controlPlaneAuthPolicy", "discoveryAddress",
			"enableCoreDump", "extraStatTags", "inject", "interceptionMode", "logLevel", "nativeSidecar", "proxyCPU", "proxyCPULimit",
			"proxyImage", "proxyImageType", "proxyMemory", "proxyMemoryLimit", "rewriteAppHTTPProbers", "statsCompression",
			"statsHistogramBuckets", "statsInclusionPrefixes", "statsInclusionRegexps", "statsInclusionSuffixes", "status",
			"userVolume", "userVolumeMount",
		},
		"proxy.istio.io/": {"config", "overrides"},
		"traffic.sidecar.istio.io/": {
			"excludeInboundPorts", "excludeInterfaces", "excludeOutboundIPRanges", "excludeOutboundPorts", "includeInboundPorts",
			"includeOutboundIPRanges", "includeOutboundPorts", "kubevirtInterfaces",
		},
		"inject.istio.io/":     {"templates"},
		"prometheus.istio.io/": {"merge-metrics"},
	}
}

func istioAnnotation(_ *set, p *pod, hit hitFunc) {
	for _, key := range slices.Sorted(maps.Keys(p.Pod.Annotations)) {
		for prefix, known := range IstioAnnotations() {
			name, ours := strings.CutPrefix(key, prefix)
			if !ours || slices.Contains(known, name) {
				continue
			}
			hint := ""
			if name == "holdApplicationUntilProxyStarts" || name == "terminationDrainDuration" {
				hint = fmt.Sprintf(`; write %s: '{"%s": …}'`, proxyConfig, name)
			}
			hit(manifest.Find(p.Template, "metadata", "annotations", key), "Istio knows no annotation %s%s", key, hint)
		}
	}
}

// istioFields returns, for paths below spec, the keys that Istio's schema has (istio/api).
func istioFields() map[string]map[string][]string {
	traffic := []string{"loadBalancer", "connectionPool", "outlierDetection", "tls", "portLevelSettings", "tunnel", "proxyProtocol", "retryBudget"}
	outlier := []string{
		"consecutive5xxErrors", "consecutiveGatewayErrors", "consecutiveLocalOriginFailures", "splitExternalLocalOriginErrors",
		"interval", "baseEjectionTime", "maxEjectionPercent", "minHealthPercent",
	}
	return map[string]map[string][]string{
		"DestinationRule":    {"trafficPolicy": traffic, "trafficPolicy.outlierDetection": outlier},
		"PeerAuthentication": {"": {"selector", "mtls", "portLevelMtls"}},
	}
}

func istioField(_ *set, o *manifest.Object, hit hitFunc) {
	if !strings.Contains(o.APIVersion, "istio.io/") {
		return
	}
	if o.Kind == "EnvoyFilter" && o.APIVersion != "networking.istio.io/v1alpha3" {
		hit(manifest.Find(o.Node, "apiVersion"), "EnvoyFilter exists as networking.istio.io/v1alpha3 only")
	}
	for path, known := range istioFields()[o.Kind] {
		node := manifest.Find(o.Node, "spec")
		if path != "" {
			node = manifest.Find(node, strings.Split(path, ".")...)
		}
		if node == nil || node.Kind != yaml.MappingNode {
			continue
		}
		for i := 0; i+1 < len(node.Content); i += 2 {
			if key := node.Content[i]; !slices.Contains(known, key.Value) {
				hit(key, "%s has no field spec.%s", o.Kind, strings.TrimPrefix(path+"."+key.Value, "."))
			}
		}
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
	if c == nil || p.proxySettings()["holdApplicationUntilProxyStarts"] != true {
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
	var ids []*int64
	if s := p.spec.SecurityContext; s != nil {
		ids = append(ids, s.RunAsUser, s.RunAsGroup)
	}
	if s := c.SecurityContext; s != nil {
		if s.RunAsUser != nil {
			ids = append(ids[:0:0], s.RunAsUser)
		}
		ids = append(ids, s.RunAsGroup)
	}
	if slices.ContainsFunc(ids, func(id *int64) bool { return id != nil && *id == 1337 }) {
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
		if p == nil || p.mesh != "istio" {
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
			if !slices.Contains(strings.Split(p.Pod.Annotations[excludeInbound], ","), port) {
				hit(nil, "%s %s: kubelet's plain call of the hook of %s on port %s is refused", p.Kind, p.Name, c.Name, port)
			}
		}
	}
}
