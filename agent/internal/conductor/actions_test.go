package conductor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

func (p *pod) journal() string {
	data, err := os.ReadFile(p.cfg.World.Journal)
	if err != nil {
		return ""
	}
	return string(data)
}

// next replaces the agent with another process in the same pod.
func (p *pod) next() {
	p.c.end(0, nil)
	p.code()
	p.start()
}

func (p *pod) operate(verb string) {
	p.t.Helper()
	if _, err := p.c.Operate(verb, "because "+verb); err != nil {
		p.t.Errorf("%s: %v", verb, err)
	}
	p.pass(50 * time.Millisecond)
}

func TestJournalStandsBeforeTheActionAndGoesAfterTheUndo(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		var seen []string
		p.onAct = func(_ context.Context, a drain.Actions) error {
			seen = append(seen, fmt.Sprint(a, " ", strings.Contains(p.journal(), `"health_failed":true`)))
			return nil
		}
		p.start()
		p.pass(time.Second)
		p.operate("drain")
		if !strings.Contains(p.journal(), `"maintenance":true`) || !strings.Contains(p.journal(), `"envoy":"envoy-1"`) {
			t.Errorf("journal in maintenance: %s", p.journal())
		}
		p.operate("undrain")
		if got := strings.Join(seen, ", "); got != "healthcheck_fail true, healthcheck_ok true" {
			t.Errorf("the journal's mark while acting: %s", got)
		}
		if got := p.journal(); got != "" {
			t.Errorf("journal after the undo: %s", got)
		}
		v := p.verdict()
		if v.Outcome != "maintenance" || v.TotalMS != 50 || sumOfPhases(v) != 50 || v.Trigger != "operator" || !strings.HasSuffix(v.Reason, ": because undrain") {
			t.Errorf("verdict %+v", v)
		}
	})
}

func TestJournalIsHonouredForTheSameEnvoyOnly(t *testing.T) {
	for epoch, want := range map[string]string{"envoy-1": "healthcheck_ok <nil>", "": "healthcheck_ok <nil>", "envoy-0": ""} {
		bubble(t, func(t *testing.T, p *pod) {
			text := fmt.Sprintf(`{"envoy":%q,"health_failed":true}`, epoch)
			if err := os.WriteFile(p.cfg.World.Journal, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			p.start()
			p.pass(time.Second)
			if got := strings.Join(p.acts, ", "); got != want {
				t.Errorf("journal of %q: done %q, want %q", epoch, got, want)
			}
		})
	}
}

// Maintenance is the operator's wish: it comes back before Envoy was seen, and for any Envoy.
func TestMaintenanceOutlivesAgentAndEnvoy(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.start()
		p.pass(time.Second)
		p.operate("drain")
		ready := p.proxyLook
		p.set(func() { p.epoch, p.proxyLook, p.acts = "envoy-2", ProxyLook{Failure: refused}, nil })
		p.next()
		if ok, phase := p.c.Ready(); ok || phase != "maintenance" {
			t.Errorf("after a restart: ready %v, phase %s", ok, phase)
		}
		p.set(func() { p.proxyLook = ready })
		p.pass(30 * time.Second)
		if !strings.Contains(strings.Join(p.acts, ", "), "healthcheck_fail <nil>") {
			t.Errorf("done to the new envoy: %v", p.acts)
		}
		p.stopAll()
		p.code()
		if v := p.verdict(); v.Outcome != "clean" || v.TotalMS > 5000 || sumOfPhases(v) != v.TotalMS || strings.Contains(phaseNames(v), "maintenance") {
			t.Errorf("verdict %+v: the total counts from T0", v)
		}
	})
}

func TestCorruptJournalIsIgnoredAndSaid(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		if err := os.WriteFile(p.cfg.World.Journal, []byte(`{"envoy":"envoy-1","health_fa`), 0o600); err != nil {
			t.Fatal(err)
		}
		p.start()
		p.pass(time.Second)
		if !p.said("read journal") || len(p.acts) != 0 {
			t.Errorf("done %v\n%s", p.acts, p.story())
		}
		p.stopAll()
		p.code()
	})
}

// A journal that cannot be written is said each time it was needed; the action is carried out all the same.
func TestJournalThatCannotBeWrittenIsSaid(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.cfg.World.Journal += "/no/such/folder"
		failures := 0
		p.onAct = func(context.Context, drain.Actions) error {
			if failures++; failures == 1 {
				return errors.New("503")
			}
			return nil
		}
		p.stopped()
		p.code()
		if n := strings.Count(p.story(), "could not undo this: write journal"); n != 2 {
			t.Errorf("said %d times, want with both attempts\n%s", n, p.story())
		}
	})
}

func TestActionThatFailsIsTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.inApp = drain.Known(1)
		failures := 3
		p.onAct = func(ctx context.Context, _ drain.Actions) error {
			failures--
			switch {
			case failures == 2:
				<-ctx.Done() // hangs
				return ctx.Err()
			case failures >= 0:
				return errors.New("503")
			}
			return nil
		}
		p.stopped()
		p.pass(10 * time.Second)
		p.set(func() { p.inApp = drain.Known(0) })
		p.code()
		want := "healthcheck_fail context deadline exceeded, healthcheck_fail 503, healthcheck_fail 503, healthcheck_fail <nil>"
		if got := strings.Join(p.acts, ", "); got != want {
			t.Errorf("attempts: %s", got)
		}
		if v := p.verdict(); v.Outcome != "clean" {
			t.Errorf("outcome %s", v.Outcome)
		}
	})
}

func TestUndoNeverOvertakesWhatItUndoes(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.onAct = func(_ context.Context, a drain.Actions) error {
			if a == drain.FailHealth {
				<-time.After(time.Second)
			}
			return nil
		}
		p.start()
		p.pass(time.Second)
		p.operate("drain")
		p.operate("undrain")
		p.pass(3 * time.Second)
		if got := strings.Join(p.acts, ", "); got != "healthcheck_fail <nil>, healthcheck_ok <nil>" {
			t.Errorf("order: %s", got)
		}
		p.stopAll()
		p.code()
	})
}

// The hooks are answered before the last action, which may hang.
func TestLastActionKeepsNobodyWaiting(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.cfg.Policy.QuitProxy, p.inApp = true, drain.Known(1)
		p.onAct = func(ctx context.Context, a drain.Actions) error {
			if a == drain.Quit {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		p.blindWatch()
		p.start()
		p.pass(time.Second)
		agent := p.hook("agent")
		p.hook("app")
		p.pass(4 * time.Second)
		p.c.Terminate()
		if got := <-agent; got.Held != 4*time.Second {
			t.Errorf("answered after %v, want at once with SIGTERM", got.Held)
		}
		if code := p.code(); code != 2 {
			t.Errorf("exit code %d, want 2", code)
		}
		p.sayOnce("quit_proxy, context deadline exceeded")
		v := p.verdict()
		if v.Outcome != "deadline" || v.Cut["app"] != 1 || v.TotalMS != 4900 {
			t.Errorf("verdict %+v", v)
		}
		if last := p.lines[len(p.lines)-1]; last.Verdict == nil {
			t.Errorf("the verdict is not the last word:\n%s", p.story())
		}
	})
}

// blindWatch lets no clock tick be needed by whoever waits for the lock that the last action holds.
func (p *pod) blindWatch() { p.cfg.World.Proxy, p.cfg.World.Describe = nil, nil }

// An action that fails is tried until it succeeds, and the log says it once.
func TestFailureOfAnActionIsSaidOnce(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.onAct = func(context.Context, drain.Actions) error { return errors.New("no such host") }
		p.inApp = drain.Known(1)
		p.start()
		p.pass(time.Second)
		p.stopAll()
		tries := 0
		p.until("tried again", func() bool {
			p.set(func() { tries = len(p.acts) })
			return tries > 5
		})
		if n := strings.Count(p.story(), "no such host"); n != 1 {
			t.Errorf("said %d times\n%s", n, p.story())
		}
	})
}

// Without Envoy's admin an operator's drain asks nothing of Envoy.
func TestTimerModeAsksNothingOfEnvoy(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.cfg.World.Describe, p.cfg.World.Proxy, p.cfg.Policy.ProxyAdmin = nil, nil, false
		p.start()
		p.pass(time.Second)
		for _, verb := range []string{"drain", "undrain"} {
			if _, err := p.c.Operate(verb, ""); err != nil {
				t.Fatal(err)
			}
			p.pass(time.Second)
		}
		if len(p.acts) != 0 {
			t.Errorf("asked of envoy: %v", p.acts)
		}
	})
}
