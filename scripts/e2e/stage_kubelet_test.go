//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
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
	lives []life
	exits *follower // containerd's events
	log   *os.File  // containerd's
	begin int64     // where it ended when the pod began
}

// A life is one run of a container, from its start to its end.
type life struct {
	container, id string
	log           *os.File // kubelet's own, kept open: it is gone with the pod, and `kubectl logs` may miss the last lines
}

func (s *kubeletStage) born(container string) {
	s.t.Helper()
	now := status(s.pod, container)
	log, err := os.Open(filepath.Join(stateDir(), "pod-logs", fmt.Sprintf("%s_%s_%s", s.pod.Namespace, s.pod.Name, s.pod.UID),
		container, fmt.Sprintf("%d.log", now.RestartCount)))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { log.Close() })
	_, id, _ := strings.Cut(now.ContainerID, "://")
	s.lives = append(s.lives, life{container, id, log})
}

// text is all that the container wrote, each line after the time at which the runtime got it.
func (l life) text(t *testing.T) string {
	t.Helper()
	raw, err := io.ReadAll(io.NewSectionReader(l.log, 0, 1<<30))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for line := range strings.Lines(string(raw)) {
		if parts := strings.SplitN(line, " ", 4); len(parts) == 4 { // time, stream, full or partial, what was written
			b.WriteString(parts[0] + " " + parts[3])
		}
	}
	return b.String()
}

// onKubelet runs the workload's pod by itself, without a Deployment that would replace it.
func onKubelet(t *testing.T, w *workload) stage {
	t.Helper()
	log, end := runtimeLog(t)
	s := &kubeletStage{t: t, seen: watch(t, w.ns), exits: containerd(t), log: log, begin: end}
	applyPod(t, w)
	kubectl(t, "-n", w.ns, "wait", "pod/subject", "--for=condition=Ready", "--timeout=90s")
	if err := json.Unmarshal(kubectl(t, "-n", w.ns, "get", "pod", "subject", "-o", "json"), &s.pod); err != nil {
		t.Fatal(err)
	}
	for _, container := range w.containers() {
		s.born(container.Name)
	}
	return s
}

func (s *kubeletStage) restarted(container string) {
	s.t.Helper()
	eventually(s.t, time.Minute, container+" was restarted", func() bool {
		s.pod = pods(s.t, s.pod.Namespace, "")[0]
		return status(s.pod, container).RestartCount == 1 && ready(s.pod)
	})
	s.born(container)
}

func (s *kubeletStage) url(port int, path string) string {
	return "http://" + net.JoinHostPort(s.pod.Status.PodIP, strconv.Itoa(port)) + path
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

func (s *kubeletStage) agentLog() string {
	i := slices.IndexFunc(s.lives, func(l life) bool { return l.container == "drain-agent" })
	return s.lives[i].text(s.t)
}

// finished reads hooks from the agent's timeline, SIGTERMs and ends from containerd.
func (s *kubeletStage) finished() []step {
	s.t.Helper()
	s.seen.gone(s.t, s.pod.Name, 2*time.Minute)
	s.t.Cleanup(func() {
		for _, l := range s.lives {
			if s.t.Failed() {
				s.t.Logf("log of %s:\n%s", l.container, tail([]byte(l.text(s.t)), 60))
			}
		}
	})
	var steps []step
	for _, life := range s.lives {
		if life.container == "drain-agent" {
			steps = append(steps, hookSteps(life.text(s.t))...)
		}
	}
	steps = append(steps, s.ends()...)
	return ordered(append(steps, s.sigterms()...))
}

func hookSteps(log string) []step {
	var steps []step
	for _, e := range events(log) {
		if verb, name, ok := strings.Cut(e.Action, " "); ok && (verb == "hold" || verb == "answer") {
			steps = append(steps, step{e.Time, strings.Replace(verb, "hold", "hook", 1) + " " + containerOf(name)})
		}
	}
	return steps
}

// runtimeLog is containerd's log and where it ends now.
func runtimeLog(t *testing.T) (*os.File, int64) {
	t.Helper()
	log, err := os.Open(filepath.Join(stateDir(), "log", "containerd.log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	end, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		t.Fatal(err)
	}
	return log, end
}

// runtime is what containerd wrote since the pod's begin.
func (s *kubeletStage) runtime() string {
	s.t.Helper()
	text, err := io.ReadAll(io.NewSectionReader(s.log, s.begin, 1<<30))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// spoilt reports whether containerd failed to stop a container because it ended in that moment. Kubelet then keeps native
// sidecars waiting for the rest of the grace period, which is another story than the one to be compared.
func (s *kubeletStage) spoilt() bool {
	for line := range strings.Lines(s.runtime()) {
		if strings.Contains(line, "failed to stop container") && slices.ContainsFunc(s.lives, func(l life) bool { return strings.Contains(line, l.id) }) {
			s.t.Logf("containerd: %s", line)
			return true
		}
	}
	return false
}

var sentSigterm = regexp.MustCompile(`time="([^"]+)" level=info msg="Stop container \\"([0-9a-f]+)\\" with signal terminated"`)

// sigterms is what the runtime sent to containers that ran. Their own word for it may be lost: Envoy ends without a line when
// the signal finds it ending.
func (s *kubeletStage) sigterms() []step {
	s.t.Helper()
	var steps []step
	for _, found := range sentSigterm.FindAllStringSubmatch(s.runtime(), -1) {
		i := slices.IndexFunc(s.lives, func(l life) bool { return l.id == found[2] })
		if i < 0 {
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, found[1])
		if err != nil {
			s.t.Fatal(err)
		}
		steps = append(steps, step{at, "sigterm " + s.lives[i].container})
	}
	return steps
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
		for _, l := range s.lives {
			if end := exitOf(s.exits.String(), l.id); end != nil {
				steps = append(steps, step{end.At, fmt.Sprintf("exit %s %d", l.container, end.Code)})
			}
		}
		return len(steps) == len(s.lives)
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
