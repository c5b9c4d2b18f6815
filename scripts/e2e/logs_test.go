//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/agent/timeline"
	"github.com/drain-agent/drain-agent/scripts/promises/fromlog"
)

// A follower keeps what one container writes, as `kubectl logs --follow` shows it while the pod stops.
type follower struct {
	mu   sync.Mutex
	text bytes.Buffer
	done chan struct{}
}

func (f *follower) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.text.Write(b)
}

// follow begins with the container's first line and ends with the container or with the test.
func follow(t *testing.T, ns, pod, container string) *follower {
	t.Helper()
	f := &follower{done: make(chan struct{})}
	var args []string
	if container == "drain-agent" {
		args = agentArgs(t, ns, pod)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := kubectlCommand(ctx, "-n", ns, "logs", pod, "-c", container, "--follow", "--timestamps")
	cmd.Stdout = f
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(f.done)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		stop()
		<-f.done
		if args != nil {
			keepsItsPromises(t, args, f.String())
		}
		if t.Failed() {
			t.Logf("log of %s/%s:\n%s", pod, container, tail([]byte(f.String()), 60))
		}
	})
	return f
}

// agentArgs are the arguments of a pod's agent.
func agentArgs(t *testing.T, ns, name string) []string {
	t.Helper()
	var pod corev1.Pod
	if err := json.Unmarshal([]byte(kubectl(t, "-n", ns, "get", "pod", name, "-o", "json")), &pod); err != nil {
		t.Fatal(err)
	}
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		if c.Name == "drain-agent" {
			return c.Args
		}
	}
	return nil
}

// keepsItsPromises judges whatever happened by the lines of the agent's log.
func keepsItsPromises(t *testing.T, args []string, log string) {
	t.Helper()
	told, err := fromlog.Pod(args)
	if err != nil {
		t.Error(err)
		return
	}
	for _, broken := range fromlog.Broken(told, log) {
		t.Error("a promise is broken: " + broken)
	}
}

func (f *follower) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.text.String()
}

// events are the drain's lines so far, without their verdicts.
func (f *follower) events() []timeline.Event { return events(f.String()) }

func events(text string) []timeline.Event {
	var all []timeline.Event
	for line, err := range timeline.Decode(strings.NewReader(text)) {
		if err == nil && line.Event != nil {
			all = append(all, *line.Event)
		}
	}
	return all
}

// verdicts are the ends of drains so far.
func (f *follower) verdicts() []timeline.Verdict { return verdicts(f.String()) }

func verdicts(text string) []timeline.Verdict {
	var all []timeline.Verdict
	for line, err := range timeline.Decode(strings.NewReader(text)) {
		if err == nil && line.Verdict != nil {
			all = append(all, *line.Verdict)
		}
	}
	return all
}

// verdictOf reads the verdict from the termination message of the agent in a pod's last state.
func verdictOf(t *testing.T, pod corev1.Pod) timeline.Verdict {
	t.Helper()
	end := status(pod, "drain-agent").State.Terminated
	if end == nil {
		t.Fatalf("%s: the last status before the pod vanished does not show the agent's end: %+v", pod.Name, status(pod, "drain-agent").State)
	}
	all := verdicts(end.Message + "\n")
	if len(all) != 1 {
		t.Fatalf("%s: termination message holds %d verdicts, want 1: %q", pod.Name, len(all), end.Message)
	}
	return all[0]
}
