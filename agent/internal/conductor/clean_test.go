package conductor

import (
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/timeline"
)

// offBeat is a settle time that is over between two readings: what comes in one moment comes in either order.
const offBeat = 210 * time.Millisecond

const cleanStory = `
0 serving: envoy envoy-1
0 serving: hold app, hook called
0 serving > confirming: hook of app called: one container, or the pod?
0 confirming: hold proxy, hook called
0 confirming > announcing: facts of two containers: the pod is terminating
0 announcing: hold agent, hook called
525 announcing > draining: no new connection for 500ms
525 draining: healthcheck_fail, ok
3075 draining > settling: nothing in flight, nobody sends
3285 settling > stopping: zero held for the settle time of 210ms
3285 stopping: answer app, zero held for the settle time of 210ms
3650 stopping: app was up, is gone
3700 stopping: answer proxy, app is gone
4075 stopping: proxy was up, is gone
4125 stopping > finished: proxy is gone
4125 finished: answer agent, proxy is gone
verdict clean after 4125
`

func TestCleanDrainFromEndToEnd(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.cfg.Policy.Settle = offBeat
		p.inApp, p.proxyLook.InFlight, p.proxyLook.Conns = drain.Known(3), drain.Known(2), drain.Known(4)
		p.stopped()
		p.pass(3010 * time.Millisecond)
		p.set(func() { p.inApp, p.proxyLook.InFlight = drain.Known(0), drain.Known(0) })
		if code := p.code(); code != 0 {
			t.Errorf("exit code %d, want 0", code)
		}
		if got := p.story(); got != strings.TrimPrefix(cleanStory, "\n") {
			t.Errorf("timeline:\n%swant:%s", got, cleanStory)
		}
		if got := strings.Join(p.acts, ", "); got != "healthcheck_fail <nil>" {
			t.Errorf("done to envoy: %s; want the reversible lever alone: nobody proved to be kubelet", got)
		}
		p.wantCleanVerdict(t)
		p.wantCleanFigures(t)
	})
}

func (p *pod) wantCleanVerdict(t *testing.T) {
	t.Helper()
	got := *p.verdict()
	want := timeline.Verdict{
		Time: p.began.Add(9125 * time.Millisecond), Level: "info", Outcome: "clean", TotalMS: 4125,
		Phases:                map[string]int64{"confirming": 0, "announcing": 525, "draining": 2550, "settling": 210, "stopping": 840},
		NewConnectionsAfterT0: new(int64(0)), IdleConnectionsLeft: new(int64(4)), ArrivalsAfterRelease: new(int64(0)), Score: new(float64(0)),
		HeldLongest: "proxy in flight", Cut: map[string]int64{}, Trigger: "hook app, hook proxy", Reason: "zero held for the settle time of 210ms",
		ArrivalsCurve: [][4]int64{{0, 0, 0, 4}, {4075, 0, 0, 4}}, RequestsPerSecond: new(float64(0)),
	}
	curve := got.InFlightCurve
	got.InFlightCurve = nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("verdict\n%+v, want\n%+v", got, want)
	}
	if len(curve) < 3 || curve[0] != [2]int64{0, 3} || curve[len(curve)-1][1] != 0 || curve[len(curve)-1][0] > got.TotalMS {
		t.Errorf("curve %v: want three in flight at first, none at last, within the drain", curve)
	}
}

func (p *pod) wantCleanFigures(t *testing.T) {
	t.Helper()
	m := p.metrics
	m.mu.Lock()
	defer m.mu.Unlock()
	if want := []string{"confirming", "announcing", "draining", "settling", "stopping", "finished"}; !reflect.DeepEqual(m.phases, want) {
		t.Errorf("phases %v, want %v", m.phases, want)
	}
	if want := []string{"clean 4125"}; !reflect.DeepEqual(m.outcomes, want) {
		t.Errorf("outcomes %v, want %v", m.outcomes, want)
	}
	holds := map[string]time.Duration{"app": 3285 * time.Millisecond, "proxy": 3700 * time.Millisecond, "agent": 4125 * time.Millisecond}
	if !reflect.DeepEqual(m.holds, holds) {
		t.Errorf("hooks held for %v, want %v", m.holds, holds)
	}
	if got := m.spent["draining"]; got != 2550*time.Millisecond {
		t.Errorf("metrics say draining took %v", got)
	}
}

// The token proves kubelet: what cannot be undone is used then.
func TestTokenAllowsTheIrreversibleLever(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.start()
		p.pass(time.Second)
		app := p.hookBy(t.Context(), "app", true)
		synctest.Wait()
		p.stopAll()
		p.code()
		if got := strings.Join(p.acts, ", "); got != "drain_listeners <nil>" {
			t.Errorf("done to envoy: %s, want drain_listeners", got)
		}
		if got := <-app; got.Outcome != "clean" || got.Container != "app" {
			t.Errorf("answer %+v", got)
		}
		p.sayOnce("hook called with the token")
	})
}

// In observe mode Envoy is not touched; the timeline says what would have been done.
func TestObserveModeTouchesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.cfg.Policy.Observe = true
		for i := range p.cfg.Policy.Containers {
			p.cfg.Policy.Containers[i].Sleep = 5 * time.Second
		}
		p.stopped()
		p.code()
		if len(p.acts) != 0 {
			t.Errorf("done to envoy in observe mode: %v\n%s", p.acts, p.story())
		}
		p.sayOnce("would answer app")
	})
}
