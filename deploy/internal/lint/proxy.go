package lint

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/deploy/internal/inject"
	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
	"github.com/drain-agent/drain-agent/deploy/internal/roles"
)

// proxyDrainShort compares the time that an Envoy gives itself to drain with the longest drain of its agent, which says the same once it
// runs. Only what stands in the manifest is judged: Envoy's default is 600 s, Istio's 45 s.
func proxyDrainShort(_ *set, p *pod, hit hitFunc) {
	c := p.Named(p.proxy.Container)
	if p.policy == nil || !p.proxy.Found() {
		return
	}
	said, at := time.Duration(0), manifest.Find(p.Template, "metadata", "annotations", proxyConfig)
	if text, is := p.proxySettings()["drainDuration"].(string); is && p.proxy.Mesh == "istio" {
		said, _ = time.ParseDuration(text) // what cannot be read is Istio's to say
	}
	need, version := p.policy.Budget().Stop, ""
	if c != nil {
		if seconds, is := drainTime(c); is {
			said, at = seconds, p.Container(c.Name)
		}
		if endsStreams(c) {
			need, version = need*3/2, ", and this release ends streams after two thirds of its own time"
		}
	}
	if said > 0 && said < need {
		hit(at, "Envoy drains for %v, the agent may take %v%s: give it %v or more", said, p.policy.Budget().Stop.Round(time.Second), version, (need + time.Second - 1).Truncate(time.Second))
	}
}

// drainTime is the value of --drain-time-s.
func drainTime(c *corev1.Container) (time.Duration, bool) {
	words := slices.Concat(c.Command, c.Args)
	for _, line := range roles.Commands(words) { // behind a shell
		words = append(words, line...)
	}
	for i, word := range words {
		name, value, joined := strings.Cut(word, "=")
		if name != "--drain-time-s" {
			continue
		}
		if !joined && i+1 < len(words) {
			value = words[i+1]
		}
		if n, err := strconv.ParseUint(value, 10, 31); err == nil {
			return time.Duration(n) * time.Second, true
		}
	}
	return 0, false
}

// endsStreams reports whether an image's tag names an Envoy of 1.41 or later.
func endsStreams(c *corev1.Container) bool {
	name, _, _ := strings.Cut(c.Image, "@")
	_, tag, _ := strings.Cut(path.Base(name), ":")
	var minor int
	n, _ := fmt.Sscanf(strings.TrimLeft(tag, "abcdefghijklmnopqrstuvwxyz-"), "1.%d", &minor)
	return n == 1 && minor >= 41 && strings.Contains(path.Base(name), "envoy")
}

// longStreams judges pods that certainly carry WebSockets: a Service's port says so. That an Envoy would let them through says nothing.
func longStreams(s *set, p *pod, hit hitFunc) {
	if p.agent == nil || p.flag("app-drain-url") != "" {
		return
	}
	for _, o := range s.services(p) {
		for _, port := range servicePorts(p.Workload, o) {
			if port.AppProtocol != nil && slices.Contains([]string{"kubernetes.io/ws", "kubernetes.io/wss", "ws", "wss", "websocket"}, strings.ToLower(*port.AppProtocol)) {
				hit(p.Container(inject.AgentContainer), "Service %s: port %d carries WebSockets (appProtocol %s), and nothing tells the app to end them", o.Name, port.Port, *port.AppProtocol)
				return
			}
		}
	}
}

// agentAnnotation finds annotations, of pods and of Namespaces, that drain-controller and drainctl inject cannot read.
func agentAnnotation(s *set, o *manifest.Object, hit hitFunc) {
	annotations, node := o.Annotations, o.Node
	if p := s.pods[o]; p != nil {
		annotations, node = p.Pod.Annotations, p.Template
	} else if o.Kind != "Namespace" {
		return
	}
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		_, problems := inject.Options{}.With(map[string]string{key: annotations[key]})
		for _, problem := range problems {
			hit(manifest.Find(node, "metadata", "annotations", key), "%s", problem)
		}
	}
}
