package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

// Row 8: a request that never ends. Order and shares are kept, the verdict names what blocked.
func TestRequestThatNeverEnds(t *testing.T) {
	t.Parallel()
	u := start(t, setup{grace: 14, agent: []string{"--stop=app=3s"}, appArgs: []string{"--stop-timeout=60s"}})
	endless := u.background("/work?ms=600000")
	u.busy(1)
	u.stop()
	<-endless // cut, as it must be
	v := u.verdict("deadline")
	if !strings.Contains(v.HeldLongest, "in flight") {
		t.Errorf("held longest by %q, want what was in flight", v.HeldLongest)
	}
	if len(v.Cut) == 0 {
		t.Error("nothing is named as cut")
	}
	if code := u.ExitCode("agent"); code != 2 {
		t.Errorf("exit code %d, want 2", code)
	}
	app, _ := u.when("app", pod.HookAnswered)
	proxy, _ := u.when("proxy", pod.HookAnswered)
	if share := proxy.Sub(app); share < 2900*time.Millisecond {
		t.Errorf("the app had %v to stop, want its whole share of 3 s", share)
	}
	begin, _ := u.when("", pod.T0)
	if used := proxy.Sub(begin); used > 14*time.Second {
		t.Errorf("proxy's hook answered %v after T0, grace is 14 s", used)
	}
}

// Row 9: the grace period is shorter than the agent was told. The last second is used well.
func TestGraceShorterThanConfigured(t *testing.T) {
	t.Parallel()
	u := start(t, setup{appArgs: []string{"--stop-timeout=60s"}})
	endless := u.background("/work?ms=600000")
	u.busy(1)
	u.Delete(new(4 * time.Second))
	u.wait()
	<-endless
	v := u.verdict("deadline")
	if !strings.Contains(v.Reason, "grace was ") || !strings.Contains(v.Reason, "configured 30s") {
		t.Errorf("reason %q", v.Reason)
	}
	var answers []string
	for _, e := range u.events() {
		if name, ok := strings.CutPrefix(e.Action, "answer "); ok {
			answers = append(answers, name)
		}
	}
	if got := strings.Join(answers, " "); got != "app proxy agent" {
		t.Errorf("hooks answered in the order %q", got)
	}
	sigterm, _ := u.when("agent", pod.Sigterm)
	exited, _ := u.when("agent", pod.Exited)
	if took := exited.Sub(sigterm); took > 5*time.Second || u.happened("agent", pod.Sigkill) != 0 {
		t.Errorf("verdict and exit took %v after SIGTERM, killed %d times", took, u.happened("agent", pod.Sigkill))
	}
}
