// Package demopod is the pod that the demo and the benchmark stop: the app of this repository behind a real Envoy,
// as people run it today and with drain-agent.
package demopod

import (
	"context"
	_ "embed"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/agent/timeline"
	"github.com/drain-agent/drain-agent/scripts/envoy/envoybin"
	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

// Inbound is the port of the pod that clients use.
const Inbound = 10000

//go:embed envoy.yaml
var bootstrap string

// Stage is what all pods share: the programs behind their images, and where they are kept.
type Stage struct {
	Images    map[string]string // image to program on this machine
	Isolate   pod.Mode
	Bootstrap string // of Envoy; its list of clusters stands last

	manifests string // their folder
}

// Build compiles the app and the agent into dir and finds Envoy, installing it where needed. It takes a minute when
// nothing is cached. It works within this module only.
func Build(ctx context.Context, dir string, isolate pod.Mode) (*Stage, error) {
	gomod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return nil, fmt.Errorf("find the module: %w", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(gomod)))
	envoy, err := envoybin.Path(ctx, "")
	if err != nil {
		return nil, err
	}
	images := map[string]string{"envoyproxy/envoy": envoy}
	for image, pkg := range map[string]string{"drain-agent-app": "./app", "drain-agent": "./agent"} {
		images[image] = filepath.Join(dir, image)
		build := exec.CommandContext(ctx, "go", "build", "-tags=grpcnotrace", "-trimpath", "-ldflags=-s", "-o", images[image], pkg)
		build.Dir, build.Stderr = root, os.Stderr
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if err := build.Run(); err != nil {
			return nil, fmt.Errorf("build %s: %w", pkg, err)
		}
	}
	return &Stage{
		Images: images, Isolate: isolate, Bootstrap: bootstrap,
		manifests: filepath.Join(root, "scripts", "demo", "demopod"),
	}, nil
}

// Manifest returns the pod of a part of the demo: "nothing" beside Envoy, "sleep" (5 s in every preStop hook) or "agent".
func (s *Stage) Manifest(part string) (*corev1.Pod, error) {
	switch part {
	case "nothing":
		return s.Plain()
	case "sleep":
		return s.Sleeping(5)
	case "agent":
		return s.WithAgent()
	}
	return nil, fmt.Errorf("no part %q: want nothing, sleep or agent", part)
}

// Plain returns the pod as people run it today.
func (s *Stage) Plain() (*corev1.Pod, error) { return s.load("plain.yaml") }

// Sleeping returns the pod with a preStop hook in each container that sleeps.
func (s *Stage) Sleeping(seconds int64) (*corev1.Pod, error) {
	manifest, err := s.Plain()
	if err != nil {
		return nil, err
	}
	for _, list := range [][]corev1.Container{manifest.Spec.InitContainers, manifest.Spec.Containers} {
		for i := range list {
			list[i].Lifecycle = &corev1.Lifecycle{
				PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: seconds}},
			}
		}
	}
	return manifest, nil
}

// WithAgent returns the pod with drain-agent; more is appended to its command line.
func (s *Stage) WithAgent(more ...string) (*corev1.Pod, error) {
	manifest, err := s.load("agent.yaml")
	if err != nil {
		return nil, err
	}
	agent := &manifest.Spec.InitContainers[0]
	agent.Args = append(agent.Args, more...)
	return manifest, nil
}

func (s *Stage) load(file string) (*corev1.Pod, error) {
	manifest, _, err := pod.Load(filepath.Join(s.manifests, file))
	return manifest, err
}

// Start runs the manifest as a pod of this name and waits until it is ready; logs are kept in dir/name. It gives up within
// half a minute and then says what kept each container, with the last lines of its log.
func (s *Stage) Start(ctx context.Context, dir, name string, manifest *corev1.Pod) (*pod.Pod, error) {
	manifest = manifest.DeepCopy()
	manifest.Name = name
	p, err := pod.Start(ctx, manifest, pod.Options{
		Images:     s.Images,
		ConfigMaps: map[string]map[string]string{"envoy": {"envoy.yaml": s.Bootstrap}},
		Dir:        filepath.Join(dir, name),
		Isolate:    s.Isolate,
	})
	if err != nil {
		return nil, err
	}
	if err := p.WaitUp(ctx); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// Address returns where clients reach a port of the pod.
func Address(p *pod.Pod, port int) string {
	return net.JoinHostPort(p.IP().String(), strconv.Itoa(p.Port(port)))
}

// Timeline returns what the pod's agent wrote about its stop; nothing where there is no agent.
func Timeline(p *pod.Pod) (events []timeline.Event, verdict *timeline.Verdict) {
	for line, err := range timeline.Decode(strings.NewReader(string(p.Log("agent")))) {
		switch {
		case err != nil:
		case line.Event != nil:
			events = append(events, *line.Event)
		case line.Verdict != nil:
			verdict = line.Verdict
		}
	}
	return events, verdict
}
