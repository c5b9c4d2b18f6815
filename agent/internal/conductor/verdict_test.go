package conductor

import (
	"strings"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

func TestOperatorsVerbsAndRefusals(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.inApp = drain.Known(1)
		p.start()
		p.pass(time.Second)
		refused := func(verb string) {
			t.Helper()
			if said, err := p.c.Operate(verb, ""); err == nil {
				t.Errorf("%s in %s: %s, want a refusal", verb, p.c.Status().Phase, said)
			} else if phase := p.c.Status().Phase; !strings.Contains(err.Error(), phase) && verb != "explode" {
				t.Errorf("%s: %v does not name the phase %s", verb, err, phase)
			}
		}
		refused("undrain")
		refused("finish")
		refused("explode")
		p.operate("drain")
		refused("finish")
		p.operate("undrain")
		p.stopAll()
		p.pass(5 * time.Second)
		refused("drain")
		refused("undrain")
		p.operate("finish")
		if code := p.code(); code != 3 {
			t.Errorf("exit code %d, want 3", code)
		}
		v := p.verdicts()[1]
		if v.Outcome != "finished_by_operator" || !strings.HasSuffix(v.Reason, ": because finish") || v.Cut["app"] != 1 {
			t.Errorf("verdict %+v", v)
		}
		refused("finish")
	})
}

func TestVerdictOfADeadline(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.inApp, p.proxyLook.InFlight, p.proxyLook.Conns = drain.Known(7), drain.Known(5), drain.Known(9)
		p.stopped()
		if code := p.code(); code != 2 {
			t.Errorf("exit code %d, want 2", code)
		}
		v := p.verdict()
		if v.Outcome != "deadline" || v.Level != "error" || v.TotalMS > 28_000 || sumOfPhases(v) != v.TotalMS {
			t.Errorf("verdict %+v", v)
		}
		// The app was let go with seven and died with them; nobody could read it afterwards.
		if v.Cut["app"] != 7 || v.Cut["proxy"] != 5 || shown(v.IdleConnectionsLeft) != "9" {
			t.Errorf("cut %v, connections left %s", v.Cut, shown(v.IdleConnectionsLeft))
		}
		if v.Score == nil || *v.Score < 5 {
			t.Errorf("score %s: five were in flight when the app was let go", shown(v.Score))
		}
		if v.HeldLongest != "proxy in flight" || v.Trigger != "hook app, hook proxy" {
			t.Errorf("held longest by %q, trigger %q", v.HeldLongest, v.Trigger)
		}
	})
}

func TestVerdictOfAnAbortedDrain(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.start()
		p.pass(time.Second)
		for _, name := range []string{"app", "proxy", "agent"} {
			p.hook(name) // by anybody: no container ends
		}
		p.until("aborted", func() bool { return len(p.verdicts()) == 1 })
		p.pass(time.Second)
		v := p.verdict()
		if v.Outcome != "aborted" || sumOfPhases(v) != v.TotalMS || !strings.Contains(v.Reason, "no SIGTERM") {
			t.Errorf("verdict %+v", v)
		}
		if got := strings.Join(p.acts, ", "); got != "healthcheck_fail <nil>, healthcheck_ok <nil>" {
			t.Errorf("done to envoy: %s, want it undone", got)
		}
		if st := p.c.Status(); st.Phase != "serving" || st.T0 != nil || p.journal() != "" {
			t.Errorf("after the abort: %+v, journal %q", st, p.journal())
		}
		p.pass(time.Minute)
		p.stopAll() // the next stop has a verdict of its own, which counts from its own T0
		p.code()
		if v := p.verdicts()[1]; v.Outcome != "clean" || v.TotalMS > 5000 || v.TotalMS != sumOfPhases(v) || v.InFlightCurve[0][0] != 0 {
			t.Errorf("second verdict %+v", v)
		}
	})
}

func TestVerdictOfAContainerRestart(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.inApp = drain.Known(1)
		p.start()
		p.pass(time.Second)
		if got := <-p.hook("app"); got.Held != 2*time.Second || got.Outcome != "container_restart" || got.Phase != "serving" {
			t.Errorf("answer %+v", got)
		}
		v := p.verdict()
		if v.Outcome != "container_restart" || v.TotalMS != 2000 || v.Phases["confirming"] != 1000 || v.Phases["holding"] != 1000 || v.Trigger != "hook app" {
			t.Errorf("verdict %+v", v)
		}
		if len(p.acts) != 0 {
			t.Errorf("done to envoy: %v", p.acts)
		}
	})
}

func TestProxyThatDiesEndsTheDrain(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.inApp, p.proxyLook.InFlight = drain.Known(1), drain.Known(1)
		p.stopped()
		p.pass(5 * time.Second)
		p.set(func() { p.proxyLook = ProxyLook{Live: drain.Gone, Failure: refused} })
		died := p.now()
		p.until("the app is let go", func() bool { return p.said("answer app") })
		if took := p.now() - died; took > time.Second {
			t.Errorf("the app was held for %v after the proxy's death", took)
		}
		if code := p.code(); code != 4 {
			t.Errorf("exit code %d, want 4", code)
		}
	})
}

// Unknown is never zero, in a pod without any source too.
func TestVerdictWithoutAnySource(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.cfg.World.Describe, p.cfg.World.Proxy, p.cfg.World.Apps = nil, nil, nil
		p.cfg.Policy.ProxyAdmin, p.cfg.Policy.Sources = false, nil
		p.start()
		p.pass(time.Second)
		p.stopAll()
		p.code()
		if v := p.verdict(); len(v.InFlightCurve) != 0 || v.IdleConnectionsLeft != nil || v.Score != nil || v.ArrivalsAfterRelease != nil || strings.Contains(v.Reason, "zero") {
			t.Errorf("verdict %+v", v)
		}
	})
}

// The score belongs to a stop: serving again there is none.
func TestScoreEndsWithTheStop(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.start()
		p.pass(5 * time.Second)
		for _, name := range []string{"app", "proxy", "agent"} {
			p.hook(name)
		}
		shown := func() (is bool) { p.metrics.with(func() { is = p.metrics.score }); return is }
		p.until("a score", shown)
		p.until("a verdict", func() bool { return len(p.verdicts()) == 1 })
		p.pass(time.Minute)
		if out := p.verdict().Outcome; out != "aborted" || shown() {
			t.Errorf("outcome %s, a minute later the score is shown: %v\n%s", out, shown(), p.story())
		}
	})
}
