//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/scripts/envoy/envoybin"
	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

type podsimStage struct {
	t   *testing.T
	pod *pod.Pod
}

// onPodsim runs the same pod as local processes, from the same source as the images.
func onPodsim(t *testing.T, w *workload) stage {
	t.Helper()
	configs := map[string]map[string]string{}
	for _, config := range w.configs {
		configs[config.Name] = config.Data
	}
	images := programs(t)
	for _, container := range w.containers() {
		if l := container.Lifecycle; l != nil && l.PostStart != nil { // podsim has the program, not the image's file system
			l.PostStart.Exec.Command[0] = images[container.Image]
		}
	}
	p, err := pod.Start(context.WithoutCancel(t.Context()), barePod(w), pod.Options{Images: images, ConfigMaps: configs, Isolate: pod.Namespaces})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Close()
		if t.Failed() {
			t.Logf("log of podsim's agent:\n%s", tail(p.Log("drain-agent"), 60))
		}
	})
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	if err := p.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return &podsimStage{t, p}
}

// programs maps the images of the manifests to the programs that scripts/e2e/images put into them.
func programs(t *testing.T) map[string]string {
	t.Helper()
	envoy, err := envoybin.Path(t.Context(), "1.40.0")
	if err != nil {
		t.Fatal(err)
	}
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"ghcr.io/drain-agent/drain-agent-app:v0.1.0-dev": filepath.Join(bin, "app"), "ghcr.io/drain-agent/drain-agent:v0.1.0-dev": filepath.Join(bin, "drain-agent"), "envoyproxy/envoy:v1.40.0": envoy,
	}
}

func (s *podsimStage) url(port int, path string) string {
	return "http://" + net.JoinHostPort(s.pod.IP().String(), strconv.Itoa(s.pod.Port(port))) + path
}

func (s *podsimStage) signal(container string, sig syscall.Signal) {
	s.t.Helper()
	if err := s.pod.Signal(container, sig); err != nil {
		s.t.Fatal(err)
	}
}

func (s *podsimStage) restarted(container string) {
	s.t.Helper()
	ctx, stop := context.WithTimeout(s.t.Context(), time.Minute)
	defer stop()
	if err := s.pod.WaitFor(ctx, container+" was restarted and the pod is ready", func(events []pod.Event) bool {
		lives, ready := 0, false
		for _, e := range events {
			switch {
			case e.Kind == pod.Started && e.Container == container:
				lives++
				ready = false
			case e.Kind == pod.PodReady:
				ready = true
			}
		}
		return lives == 2 && ready
	}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *podsimStage) remove(grace *time.Duration) { s.pod.Delete(grace) }

func (s *podsimStage) agentLog() string { return string(s.pod.Log("drain-agent")) }

func (s *podsimStage) spoilt() bool { return false }

// finished takes everything from podsim's own timeline: that is what is on trial.
func (s *podsimStage) finished() []step {
	s.t.Helper()
	ctx, stop := context.WithTimeout(s.t.Context(), 2*time.Minute)
	defer stop()
	if err := s.pod.Wait(ctx); err != nil {
		s.t.Fatal(err)
	}
	words := map[pod.Kind]string{pod.HookCalled: "hook", pod.HookAnswered: "answer", pod.Sigterm: "sigterm"}
	var steps []step
	for _, e := range s.pod.Events() {
		if strings.HasPrefix(e.Detail, "postStart") {
			continue
		}
		switch word := words[e.Kind]; {
		case e.Kind == pod.Exited:
			steps = append(steps, step{e.Time, fmt.Sprintf("exit %s %d", e.Container, e.Code)})
		case word != "":
			steps = append(steps, step{e.Time, word + " " + e.Container})
		}
	}
	return ordered(steps)
}
