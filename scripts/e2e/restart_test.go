//go:build e2e

package e2e

import (
	"net/http"
	"slices"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Row 4: kubelet calls the stop hook of a container that fails its liveness probe, in a pod that lives on. Nothing is drained.
func TestLivenessRestart(t *testing.T) {
	t.Parallel()
	ownNode(t)
	quick := func(path string, port int, grace int64) *corev1.Probe {
		return &corev1.Probe{
			ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt(port)}},
			PeriodSeconds: 1, TimeoutSeconds: 1, FailureThreshold: 3, TerminationGracePeriodSeconds: &grace,
		}
	}
	for _, row := range []struct {
		container string
		probe     *corev1.Probe
		fail      func(*testing.T, corev1.Pod)
	}{
		{"app", quick("/readyz", 8090, 20), func(t *testing.T, pod corev1.Pod) { post(t, pod, 8090, "/toggle-health") }},
		{"proxy", quick("/work?ms=0", 8000, 5), func(t *testing.T, pod corev1.Pod) { signal(t, pod, "proxy", syscall.SIGSTOP) }},
		{"drain-agent", quick("/livez", 9909, 5), func(t *testing.T, pod corev1.Pod) { signal(t, pod, "drain-agent", syscall.SIGSTOP) }},
	} {
		t.Run(row.container, func(t *testing.T) {
			t.Parallel()
			w := load(t, "native", namespace(t, "restricted")).replicas(1)
			w.container(row.container).LivenessProbe = row.probe
			w.start(t)
			seen := watch(t, w.ns)
			pod := pods(t, w.ns, w.selector())[0]
			log := follow(t, w.ns, pod.Name, "drain-agent")
			row.fail(t, pod)
			first := log
			eventually(t, time.Minute, row.container+" was restarted and the pod is ready again", func() bool {
				now := pods(t, w.ns, w.selector())[0]
				return status(now, row.container).RestartCount == 1 && ready(now)
			})
			onlyRestarted(t, pods(t, w.ns, w.selector())[0], row.container)
			staysOpen(t, w.target(t))
			if row.container == "drain-agent" { // frozen, it knows of nothing; its second life is logged apart
				log = follow(t, w.ns, pod.Name, "drain-agent")
				eventually(t, time.Minute, "the second life of the agent has seen Envoy", func() bool { return len(log.events()) > 0 })
			} else {
				eventually(t, time.Minute, "the restart has its verdict", func() bool { return len(log.verdicts()) > 0 })
			}
			drainedNothing(t, first, row.container)
			drainedNothing(t, log, row.container)
			kubectl(t, "-n", w.ns, "scale", "deployment/"+w.deployment.Name, "--replicas=0")
			if v := verdictOf(t, seen.gone(t, pod.Name, time.Minute)); v.Outcome != "clean" {
				t.Errorf("the real stop afterwards ended %s: %s", v.Outcome, v.Reason)
			}
		})
	}
}

func ready(pod corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func onlyRestarted(t *testing.T, pod corev1.Pod, container string) {
	t.Helper()
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if s.Name != container && s.RestartCount != 0 {
			t.Errorf("%s was restarted too", s.Name)
		}
	}
}

// drainedNothing holds when all that happened so far were stops of this one container.
func drainedNothing(t *testing.T, log *follower, container string) {
	t.Helper()
	if len(log.events()) == 0 {
		t.Error("the log is empty")
	}
	for _, e := range log.events() {
		if !slices.Contains([]string{"serving", "confirming", "holding"}, e.To) {
			t.Errorf("phase %s: %s", e.To, e.Reason)
		}
	}
	for _, v := range log.verdicts() {
		if v.Outcome != "container_restart" || v.Trigger != "hook "+container {
			t.Errorf("verdict %s, trigger %s: %s", v.Outcome, v.Trigger, v.Reason)
		}
	}
}

// staysOpen sends requests over one connection, which nobody asks to close: Envoy is not draining.
func staysOpen(t *testing.T, target string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}, Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	for range 10 {
		response, err := client.Get("http://" + target + "/work?ms=1")
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK || response.Close {
			t.Errorf("answered %s, told to close: %v", response.Status, response.Close)
		}
	}
}
