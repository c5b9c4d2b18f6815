//go:build e2e

package e2e

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/agent/timeline"
)

// Row 6: a request that never ends uses up the grace period. The verdict stands in the pod's status before kubelet kills
// anybody, and the hooks are answered in order.
func TestGraceExhausted(t *testing.T) {
	t.Parallel()
	w := load(t, "native", namespace(t, "restricted")).replicas(1).grace(20).start(t)
	seen := watch(t, w.ns)
	pod := pods(t, w.ns, w.selector())[0]
	log := follow(t, w.ns, pod.Name, "drain-agent")
	stuck(t, w.target(t))
	kubectl(t, "-n", w.ns, "scale", "deployment/"+w.deployment.Name, "--replicas=0")
	last := seen.gone(t, pod.Name, time.Minute)
	v := verdictOf(t, last)
	if v.Outcome != "deadline" {
		t.Errorf("verdict %s (%s), want deadline", v.Outcome, v.Reason)
	}
	if code := status(last, "drain-agent").State.Terminated.ExitCode; code != 2 {
		t.Errorf("the agent ended with %d, want 2: by itself, before SIGKILL (137)", code)
	}
	if order := answered(log.events()); !slices.Equal(order, []string{"app", "proxy", "agent"}) {
		t.Errorf("hooks answered in the order %v", order)
	}
	verdictCameFirst(t, v, last)
}

// stuck sends a request that the app holds for as long as it may, and returns when the app has it.
func stuck(t *testing.T, target string) {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(stop)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+target+"/stream?ms=3000000&chunks=2", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(response.Body, make([]byte, len("chunk 0\n"))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
}

// answered lists the containers whose hooks were answered, in that order.
func answered(events []timeline.Event) []string { return acted(events, "answer ") }

func acted(events []timeline.Event, verb string) []string {
	var names []string
	for _, e := range events {
		if name, ok := strings.CutPrefix(e.Action, verb); ok {
			names = append(names, name)
		}
	}
	return names
}

// verdictCameFirst holds when nobody was killed before the agent had its verdict. The API gives ends in whole seconds.
func verdictCameFirst(t *testing.T, v timeline.Verdict, last corev1.Pod) {
	t.Helper()
	for _, c := range slices.Concat(last.Status.InitContainerStatuses, last.Status.ContainerStatuses) {
		if end := c.State.Terminated; end.ExitCode == 137 && end.FinishedAt.Time.Before(v.Time.Truncate(time.Second)) {
			t.Errorf("%s was killed at %v, the verdict came at %v", c.Name, end.FinishedAt, v.Time)
		}
	}
}

// A grace period shorter than the one in the manifest (row 7): hooks in order and a verdict that says so. How long the stop takes
// is compared in TestNoLaterThanWithoutAgent.
func TestShorterGraceThanConfigured(t *testing.T) {
	t.Parallel()
	w := load(t, "native", namespace(t, "restricted")).replicas(1).start(t)
	seen := watch(t, w.ns)
	pod := pods(t, w.ns, w.selector())[0]
	log := follow(t, w.ns, pod.Name, "drain-agent")
	stuck(t, w.target(t))
	kubectl(t, "-n", w.ns, "delete", "pod", pod.Name, "--grace-period=4", "--wait=false")
	v := verdictOf(t, seen.gone(t, pod.Name, 30*time.Second))
	if v.Outcome != "deadline" || !strings.Contains(v.Reason, "grace") {
		t.Errorf("verdict %s (%s), want deadline because of the grace", v.Outcome, v.Reason)
	}
	if order := answered(log.events()); !slices.Equal(order, []string{"app", "proxy", "agent"}) {
		t.Errorf("hooks answered in the order %v", order)
	}
}
