package e2e

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

// withoutProxy is the pod of the payment service and the agent alone: clients come to the app's own port.
func withoutProxy(more ...string) setup {
	return setup{
		agent: append([]string{"--proxy=none", "--hooks=app,agent", "--stop-order=app", "--watch=app=port:8080"}, more...),
		manifest: func(p *corev1.Pod) {
			p.Spec.InitContainers = slices.DeleteFunc(p.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == "proxy" })
		},
	}
}

// A pod without an Envoy is judged by its own sockets: idle it is let go after the propagation, a request holds it as long as it takes.
func TestPodWithoutAProxy(t *testing.T) {
	t.Parallel()
	t.Run("idle", func(t *testing.T) {
		t.Parallel()
		u := start(t, withoutProxy())
		u.stop()
		v := u.verdict("clean")
		u.quietMaxUnpaid()
		u.inOrder("app hook_answered", "app sigterm", "app exited", "agent sigterm")
		if v.NewConnectionsAfterT0 == nil || v.ArrivalsAfterRelease != nil {
			t.Errorf("%+v", v)
		}
		for _, e := range u.events() {
			if e.Level == "warn" && strings.Contains(e.Reason, "timer mode") {
				t.Errorf("it was asked for, and warned of: %s", e.Reason)
			}
		}
	})
	t.Run("one request", func(t *testing.T) {
		t.Parallel()
		u := start(t, withoutProxy())
		long := make(chan answer, 1)
		go func() {
			long <- get(context.Background(), &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, u.url(8080, "/work?ms=5000"))
		}()
		u.busy(1)
		u.stop()
		a := <-long
		u.mustServe("in flight", a)
		u.verdict("clean")
		u.quietMaxUnpaid()
		if answered, _ := u.when("app", pod.HookAnswered); answered.Before(a.at) {
			t.Errorf("app's hook answered at %v, its request ended at %v", answered, a.at)
		}
	})
}

// quietMaxUnpaid fails the test when the stop waited for quiet-max.
func (u *under) quietMaxUnpaid() {
	u.t.Helper()
	for _, e := range u.events() {
		if strings.Contains(e.Reason, "quiet-max") {
			u.t.Errorf("a cap was paid: %s", e.Reason)
		}
	}
}
