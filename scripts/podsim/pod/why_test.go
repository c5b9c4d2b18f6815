package pod_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

// Whoever waits for a pod that cannot start is told which container keeps it, and why, long before the patience ends.
func TestAPodThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	missing := fakeContainer("proxy", 8081, nil)
	missing.Image = "nowhere"
	p := runWith(t, manifest(5, []corev1.Container{native(missing)}, fakeContainer("app", 8080, nil)), pod.Options{BackOff: 50 * time.Millisecond})
	began := time.Now()
	err := p.WaitUp(t.Context())
	if err == nil || time.Since(began) > pod.Patience/2 {
		t.Fatalf("WaitUp: %v after %v, want an error at the second try", err, time.Since(began))
	}
	for _, want := range []string{"proxy: image_missing: image nowhere", "app: not started yet"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in: %v", want, err)
		}
	}
}

// The last words of a process that ends again and again are in the error, and a container that is fine is not.
func TestWhyQuotesTheLogOfTheProcessThatFailed(t *testing.T) {
	t.Parallel()
	crashing := native(fakeContainer("agent", agentPort, env{"EXIT": "3"}))
	crashing.Args = []string{"--grace=oops"}
	p := runWith(t, manifest(5, []corev1.Container{native(fakeContainer("other", 8081, nil)), crashing}, fakeContainer("app", 8080, nil)), pod.Options{})
	until(t, p, "two ends", func(e []pod.Event) bool { return count(e, "agent", pod.Exited) >= 2 })
	var why string
	eventually(t, "the container that is ready is not named", func() bool {
		why = p.Why()
		return !strings.Contains(why, "other:")
	})
	for _, want := range []string{"agent: it ended with code 3", "| args [--grace=oops]"} {
		if !strings.Contains(why, want) {
			t.Errorf("no %q in:\n%s", want, why)
		}
	}
}
