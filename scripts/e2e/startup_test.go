//go:build e2e

package e2e

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Row 3, the article's first test: an app that needs 45 s to start.
func TestStartupRace(t *testing.T) {
	t.Run("bad service ends in CrashLoopBackOff", func(t *testing.T) {
		t.Parallel()
		ns := namespace(t, "baseline")
		seen := watch(t, ns)
		bad := load(t, "bad-service", ns).replicas(1)
		bad.apply(t)
		eventually(t, 7*time.Minute, "the app was restarted twice and waits in CrashLoopBackOff", func() bool {
			return slices.ContainsFunc(pods(t, ns, bad.selector()), func(pod corev1.Pod) bool {
				app := status(pod, "app")
				return app.RestartCount >= 2 && crashLoops(seen.of(pod.Name))
			})
		})
	})
	for _, name := range []string{"good-service", "better-service"} {
		t.Run(name+" starts without a restart", func(t *testing.T) {
			t.Parallel()
			good := load(t, name, namespace(t, "restricted")).replicas(1)
			began := time.Now()
			good.start(t)
			if took := time.Since(began); took < 45*time.Second {
				t.Errorf("ready after %v: the app did not need its 45 s", took)
			}
			for _, pod := range pods(t, good.ns, good.selector()) {
				for _, container := range good.containers() {
					if n := status(pod, container.Name).RestartCount; n != 0 {
						t.Errorf("%s of %s was restarted %d times", container.Name, pod.Name, n)
					}
				}
			}
		})
	}
}

func crashLoops(states []podState) bool {
	return slices.ContainsFunc(states, func(s podState) bool {
		waiting := status(s.pod, "app").State.Waiting
		return waiting != nil && waiting.Reason == "CrashLoopBackOff"
	})
}
