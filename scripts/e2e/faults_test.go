//go:build e2e

package e2e

import (
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// A sample of scripts/faults: processes that stand still, or die before, in pods of a real kubelet. The request under way is answered, and
// the verdict says so.
func TestFaultsInMidDrain(t *testing.T) {
	t.Parallel()
	ownNode(t)
	for _, row := range []struct {
		manifest, container string
		before              bool // the deletion, by SIGKILL; else it stands still for four seconds in mid-drain
	}{
		{"native", "drain-agent", false},
		{"native", "proxy", false},
		{"classic", "drain-agent", false},
		{"classic", "app", false},
		{"native", "drain-agent", true},
	} {
		name := row.manifest + " " + row.container
		if row.before {
			name += " killed before"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := load(t, row.manifest, namespace(t, "restricted")).replicas(1).start(t)
			seen := watch(t, w.ns)
			pod := pods(t, w.ns, w.selector())[0]
			if row.before {
				signal(t, pod, row.container, syscall.SIGKILL)
				eventually(t, time.Minute, "the agent was restarted and the pod is ready again", func() bool {
					pod = pods(t, w.ns, w.selector())[0]
					return status(pod, row.container).RestartCount == 1 && ready(pod)
				})
			}
			log := follow(t, w.ns, pod.Name, "drain-agent")
			answer := request(t, w.target(t), 8*time.Second)
			kubectl(t, "-n", w.ns, "scale", "deployment/"+w.deployment.Name, "--replicas=0")
			if !row.before {
				reaches(t, log, "draining")
				pause(t, pod, row.container, 4*time.Second)
			}
			if result := <-answer; result != "200 OK" {
				t.Errorf("the request under way ended with %s", result)
			}
			if v := verdictOf(t, seen.gone(t, pod.Name, 90*time.Second)); v.Outcome != "clean" {
				t.Errorf("verdict %s: %s", v.Outcome, v.Reason)
			}
		})
	}
}

// pause lets a container's main process stand still.
func pause(t *testing.T, pod corev1.Pod, container string, d time.Duration) {
	t.Helper()
	signal(t, pod, container, syscall.SIGSTOP)
	defer signal(t, pod, container, syscall.SIGCONT)
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}
