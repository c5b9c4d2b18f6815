package lint

import (
	"cmp"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/deploy/internal/inject"
	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
	"github.com/drain-agent/drain-agent/deploy/internal/roles"
)

// patience is how long a probe may fail, from the container's start, before it has failed; Kubernetes' defaults where nothing
// is said.
func patience(probe *corev1.Probe) time.Duration {
	return time.Duration(probe.InitialDelaySeconds+cmp.Or(probe.PeriodSeconds, 10)*cmp.Or(probe.FailureThreshold, 3)) * time.Second
}

// How long a program may take to start: what nobody should be surprised by, and what is not yet slow.
const (
	quickStart = 15 * time.Second
	slowStart  = time.Minute
)

func noStartupProbe(p *pod, c *corev1.Container, hit hitFunc) {
	if c.LivenessProbe != nil && c.StartupProbe == nil && !p.is(c, roles.Proxy, roles.Helper) && patience(c.LivenessProbe) < slowStart {
		hit(manifest.Find(p.Container(c.Name), "livenessProbe"), "liveness kills it %v after its start, if it does not answer by then", patience(c.LivenessProbe))
	}
}

func livenessBeforeStart(p *pod, c *corev1.Container, hit hitFunc) {
	name, probe := "startupProbe", c.StartupProbe
	if probe == nil {
		name, probe = "livenessProbe", c.LivenessProbe
	}
	if probe != nil && !p.is(c, roles.Proxy, roles.Agent, roles.Helper) && patience(probe) < quickStart {
		hit(manifest.Find(p.Container(c.Name), name), "%s kills it %v after its start, if it does not answer by then", name, patience(probe))
	}
}

func noReadinessProbe(s *set, p *pod, hit hitFunc) {
	serving := s.served(p, true)
	if len(serving) == 0 || serving[0].Image == "auto" || // Istio's injector adds one
		p.Kind == "DaemonSet" && p.spec.HostNetwork && len(s.services(p)) == 0 || // nobody comes by an endpoint
		slices.ContainsFunc(p.lasting(), func(c *corev1.Container) bool {
			return c.ReadinessProbe != nil && (slices.Contains(serving, c) || p.is(c, roles.Serving))
		}) {
		return
	}
	hit(cmp.Or(p.Container(serving[0].Name), manifest.Find(p.Template, "spec")), "container %s serves, and nothing says when it can answer", serving[0].Name)
}

// livenessIsReadiness finds one question with two consequences. Where liveness has more patience it is a known practice, unless
// the question is readiness by its name; a connection that opens, or a process that exists, says nothing of readiness.
func livenessIsReadiness(p *pod, c *corev1.Container, hit hitFunc) {
	live, ready := c.LivenessProbe, c.ReadinessProbe
	if live == nil || ready == nil || live.TCPSocket != nil || p.is(c, roles.Proxy, roles.Agent, roles.Helper) || !sameQuestion(live, ready) {
		return
	}
	if live.Exec != nil && justExists.MatchString(strings.Join(live.Exec.Command, " ")) || steady(live) > steady(ready) && !readiness.MatchString(asked(live)) {
		return
	}
	hit(manifest.Find(p.Container(c.Name), "livenessProbe"), "livenessProbe and readinessProbe ask the same question")
}

// sameQuestion compares what probes ask; the headers of a request ask nothing.
func sameQuestion(a, b *corev1.Probe) bool {
	asks := func(p *corev1.Probe) corev1.ProbeHandler {
		h := *p.ProbeHandler.DeepCopy()
		if h.HTTPGet != nil {
			h.HTTPGet.HTTPHeaders = nil
		}
		return h
	}
	return reflect.DeepEqual(asks(a), asks(b))
}

var justExists = regexp.MustCompile(`\b(pgrep|pidof|ps)\b|^(/bin/)?cat /`)

// steady is how long a probe fails in a row, in a container that runs, before it has failed.
func steady(probe *corev1.Probe) int32 {
	return cmp.Or(probe.PeriodSeconds, 10) * cmp.Or(probe.FailureThreshold, 3)
}

// readiness are the words by which endpoints call readiness; a word, not a part of one: pg_isready asks a database for its pulse.
var readiness = regexp.MustCompile(`(?i)(^|[/_.\-])(ready|readyz|readiness)($|[/_.?\-])`)

// livenessFailsInShutdown finds liveness probes that ask what is false by design while a dependency is away: readiness.
func livenessFailsInShutdown(p *pod, c *corev1.Container, hit hitFunc) {
	if c.LivenessProbe == nil || p.is(c, roles.Proxy, roles.Helper) || c.ReadinessProbe != nil && sameQuestion(c.LivenessProbe, c.ReadinessProbe) {
		return
	}
	asks := asked(c.LivenessProbe)
	if c.LivenessProbe.Exec != nil { // of a command only the addresses that it asks
		asks = strings.Join(addresses.FindAllString(asks, -1), " ")
	}
	if readiness.MatchString(asks) {
		hit(manifest.Find(p.Container(c.Name), "livenessProbe"), "liveness asks %s", asks)
	}
}

var addresses = regexp.MustCompile(`https?://\S+|\b(localhost|127\.0\.0\.1):\d+/\S+`)

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
