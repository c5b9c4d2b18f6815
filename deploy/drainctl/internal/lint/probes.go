package lint

import (
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/inject"
	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/manifest"
)

func noStartupProbe(p *pod, c *corev1.Container, hit hitFunc) {
	if c.LivenessProbe != nil && c.StartupProbe == nil && c.Name != p.proxy.Container {
		hit(manifest.Find(p.Container(c.Name), "livenessProbe"), "liveness may kill it while it still starts")
	}
}

func noReadinessProbe(_ *set, p *pod, hit hitFunc) {
	served := slices.ContainsFunc(p.regular(), func(c *corev1.Container) bool { return len(c.Ports) > 0 })
	if p.job || !served || slices.ContainsFunc(p.lasting(), func(c *corev1.Container) bool {
		return c.ReadinessProbe != nil && c.Name != inject.AgentContainer
	}) {
		return
	}
	hit(manifest.Find(p.Template, "spec", "containers"), "no container says when it can serve")
}

func livenessIsReadiness(p *pod, c *corev1.Container, hit hitFunc) {
	if c.LivenessProbe != nil && c.ReadinessProbe != nil && c.LivenessProbe.TCPSocket == nil &&
		reflect.DeepEqual(c.LivenessProbe.ProbeHandler, c.ReadinessProbe.ProbeHandler) {
		hit(manifest.Find(p.Container(c.Name), "livenessProbe"), "livenessProbe and readinessProbe ask the same question")
	}
}

// livenessFailsInShutdown finds liveness probes that ask what is false by design while a pod stops: readiness.
func livenessFailsInShutdown(p *pod, c *corev1.Container, hit hitFunc) {
	if c.LivenessProbe == nil || c.ReadinessProbe != nil && reflect.DeepEqual(c.LivenessProbe.ProbeHandler, c.ReadinessProbe.ProbeHandler) {
		return
	}
	asks := asked(c.LivenessProbe)
	if strings.Contains(strings.ToLower(asks), "ready") || strings.Contains(strings.ToLower(asks), "readiness") {
		hit(manifest.Find(p.Container(c.Name), "livenessProbe"), "liveness asks %s", asks)
	}
}

// asked is what a probe asks for: path, service or command.
func asked(probe *corev1.Probe) string {
	switch h := probe.ProbeHandler; {
	case h.HTTPGet != nil:
		return h.HTTPGet.Path
	case h.GRPC != nil && h.GRPC.Service != nil:
		return *h.GRPC.Service
	case h.Exec != nil:
		return strings.Join(h.Exec.Command, " ")
	}
	return ""
}

func probeThroughProxy(_ *set, p *pod, hit hitFunc) {
	if p.agent == nil || p.proxy.Container == "" || p.flag("background") != "" && p.flag("background") != "0" {
		return
	}
	if names, rate := inject.ProbesThrough(p.Workload, p.proxy.Container); rate > 0 {
		hit(p.Container(inject.AgentContainer), "%s pass the proxy: say --background=%.3g", strings.Join(names, ", "), rate)
	}
}
