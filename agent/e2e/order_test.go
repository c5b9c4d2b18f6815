package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/timeline"
	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

func versions() []string { return []string{newest, "1.36.2", "1.39.3"} }

func shapes() []shape { return []shape{nativeAgentFirst, nativeProxyFirst, classic} }

// Row 1: all hooks, one request of five seconds through Envoy.
func TestAppFirstThenProxy(t *testing.T) {
	for _, version := range versions() {
		for _, s := range shapes() {
			t.Run(version+" "+string(s), func(t *testing.T) {
				t.Parallel()
				oneLongRequest(t, setup{version: version, shape: s})
			})
		}
	}
}

// Row 2: the same with all of Envoy's statistics hidden, as Istio hides them.
func TestHiddenStatistics(t *testing.T) {
	for _, version := range versions() {
		for _, s := range shapes() {
			t.Run(version+" "+string(s), func(t *testing.T) {
				t.Parallel()
				hidden := setup{version: version, shape: s}
				hidden.envoy.HideStats = true
				u := oneLongRequest(t, hidden)
				for _, e := range u.events() {
					if e.To == "draining" && e.ProxyRung != "clusters" {
						t.Errorf("rung %q while draining, want clusters", e.ProxyRung)
					}
				}
				if v := u.verdict("clean"); v.ArrivalsAfterRelease == nil {
					t.Error("arrivals are unknown; rq_total of the hosts tells them")
				}
			})
		}
	}
}

func oneLongRequest(t *testing.T, s setup) *under {
	t.Helper()
	u := start(t, s)
	long := u.background("/work?ms=5000")
	u.busy(1)
	u.stop()
	a := <-long
	u.mustServe("of five seconds", a)
	u.verdict("clean")
	u.noCap()
	answered, ok := u.when("app", pod.HookAnswered)
	if !ok || answered.Before(a.at) {
		t.Errorf("app's hook answered at %v, its request ended at %v", answered, a.at)
	}
	if late := answered.Sub(a.at); late > 10*time.Second { // quiet-max and the deadline lie beyond; the bench has the figure
		t.Errorf("app's hook answered %v after its last request", late)
	}
	u.inOrder("app hook_answered", "app sigterm", "proxy hook_answered", "proxy exited")
	gone := u.eventIndex(func(e timeline.Event) bool {
		return strings.HasSuffix(e.Reason, "is gone") && strings.HasPrefix(e.Reason, "app was")
	})
	answer := u.eventIndex(func(e timeline.Event) bool { return e.Action == timeline.Answer("proxy") })
	if gone < 0 || answer < gone {
		t.Errorf("proxy's hook was answered (event %d) before the app was gone (event %d)", answer, gone)
	}
	if code := u.ExitCode("agent"); code != 0 {
		t.Errorf("agent's exit code %d", code)
	}
	if msg := u.TerminationMessage("agent"); msg == "" {
		t.Error("no termination message")
	}
	return u
}

// eventIndex is the place of the first such event in the timeline, or -1.
func (u *under) eventIndex(is func(timeline.Event) bool) int {
	return slices.IndexFunc(u.events(), is)
}
