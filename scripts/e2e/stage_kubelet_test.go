//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

type kubeletStage struct {
	t     *testing.T
	pod   corev1.Pod
	seen  *watcher
	logs  map[string]*follower
	exits *follower // containerd's events
}

// onKubelet runs the workload's pod by itself, without a Deployment that would replace it.
func onKubelet(t *testing.T, w *workload) stage {
	t.Helper()
	s := &kubeletStage{t: t, seen: watch(t, w.ns), exits: containerd(t)}
	applyPod(t, w)
	kubectl(t, "-n", w.ns, "wait", "pod/subject", "--for=condition=Ready", "--timeout=90s")
	if err := json.Unmarshal(kubectl(t, "-n", w.ns, "get", "pod", "subject", "-o", "json"), &s.pod); err != nil {
		t.Fatal(err)
	}
	s.logs = followAll(t, s.pod)
	return s
}

func (s *kubeletStage) url(port int, path string) string {
	return fmt.Sprintf("http://%s:%d%s", s.pod.Status.PodIP, port, path)
}

func (s *kubeletStage) signal(container string, sig syscall.Signal) {
	signal(s.t, s.pod, container, sig)
}

func (s *kubeletStage) remove(grace *time.Duration) {
	args := []string{"-n", s.pod.Namespace, "delete", "pod", s.pod.Name, "--wait=false"}
	if grace != nil {
		args = append(args, fmt.Sprintf("--grace-period=%d", int(grace.Seconds())))
	}
	kubectl(s.t, args...)
}

func (s *kubeletStage) agentLog() string { return s.logs["drain-agent"].String() }

// finished reads hooks from the agent's timeline, SIGTERMs from the logs of app and Envoy, and ends from containerd.
func (s *kubeletStage) finished() []step {
	s.t.Helper()
	s.seen.gone(s.t, s.pod.Name, 2*time.Minute)
	var steps []step
	if log := s.logs["drain-agent"]; log != nil {
		for _, e := range log.events() {
			if verb, name, ok := strings.Cut(e.Action, " "); ok && (verb == "hold" || verb == "answer") {
				steps = append(steps, step{e.Time, strings.Replace(verb, "hold", "hook", 1) + " " + containerOf(name)})
			}
		}
	}
	for container, mark := range map[string]string{"app": `"msg":"stopping"`, "proxy": "caught ENVOY_SIGTERM"} {
		for line := range strings.Lines(s.logs[container].String()) {
			if strings.Contains(line, mark) {
				stamp, _, _ := strings.Cut(line, " ")
				at, err := time.Parse(time.RFC3339Nano, stamp)
				if err != nil {
					s.t.Fatal(err)
				}
				steps = append(steps, step{at, "sigterm " + container})
			}
		}
	}
	return ordered(append(steps, s.ends()...))
}

// containerOf is the container behind a hook's name.
func containerOf(hook string) string {
	if hook == "agent" {
		return "drain-agent"
	}
	return hook
}

// ends waits until containerd has told the end of every container.
func (s *kubeletStage) ends() []step {
	s.t.Helper()
	var steps []step
	eventually(s.t, 20*time.Second, "containerd has told every exit", func() bool {
		steps = nil
		for container := range s.logs {
			_, id, _ := strings.Cut(status(s.pod, container).ContainerID, "://")
			if end := exitOf(s.exits.String(), id); end != nil {
				steps = append(steps, step{end.At, fmt.Sprintf("exit %s %d", container, end.Code)})
			}
		}
		return len(steps) == len(s.logs)
	})
	return steps
}

type taskExit struct {
	ID   string    `json:"id"`
	Code int       `json:"exit_status"`
	At   time.Time `json:"exited_at"`
}

func exitOf(events, id string) *taskExit {
	for line := range strings.Lines(events) {
		if _, body, ok := strings.Cut(line, " /tasks/exit "); ok {
			var end taskExit
			if json.Unmarshal([]byte(body), &end) == nil && end.ID == id {
				return &end
			}
		}
	}
	return nil
}

// containerd follows the events of the node's container runtime.
func containerd(t *testing.T) *follower {
	t.Helper()
	f := &follower{done: make(chan struct{})}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := exec.CommandContext(ctx, "ctr", "--address", filepath.Join(stateDir(), "run", "containerd.sock"), "--namespace", "k8s.io", "events")
	cmd.Stdout, cmd.WaitDelay = f, time.Second
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
	})
	return f
}

// applyPod applies the template as a bare pod called subject.
func applyPod(t *testing.T, w *workload) {
	t.Helper()
	var objects []any
	for _, config := range w.configs {
		objects = append(objects, config)
	}
	apply(t, w.ns, append(objects, barePod(w))...)
}

func barePod(w *workload) *corev1.Pod {
	return &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: "subject", Namespace: w.ns, Labels: w.deployment.Spec.Template.Labels},
		Spec:       *w.spec().DeepCopy(),
	}
}
