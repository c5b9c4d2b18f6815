package conductor

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// What was in flight when a process ended was cut, by class; what ended before it was not.
func TestCutIsWhatDidNotEndInTime(t *testing.T) {
	type classes = map[string]int64
	answered := func(p *pod) func() bool { return func() bool { return p.said("answer app") } }
	tests := map[string]struct {
		noSource bool
		then     func(p *pod) // once the app was let go, 310 ms before it ends
		appEnds  func(p *pod)
		want     classes
	}{
		"the app breaks it off": {
			appEnds: func(p *pod) { p.proxyLook.InFlight, p.proxyLook.Classes = drain.Known(0), nil },
			want:    classes{"proxy": 1, "proxy websocket": 2, "app": 2, "app grpc_stream": 1},
		},
		"the app breaks it off, nobody counts there": {
			noSource: true,
			appEnds:  func(p *pod) { p.proxyLook.InFlight, p.proxyLook.Classes = drain.Known(0), nil },
			want:     classes{"proxy": 1, "proxy websocket": 2},
		},
		"all of it ends in time": {
			then: func(p *pod) {
				p.inApp, p.appClasses, p.proxyLook.InFlight, p.proxyLook.Classes = drain.Known(0), nil, drain.Known(0), nil
			},
		},
		"a part ends in time": {
			then: func(p *pod) {
				p.inApp, p.appClasses, p.proxyLook.InFlight, p.proxyLook.Classes = drain.Known(1), nil, drain.Known(1), nil
			},
			appEnds: func(p *pod) { p.proxyLook.InFlight = drain.Known(0) },
			want:    classes{"proxy": 1, "app": 1},
		},
		"the last bytes leave envoy after the app's end": {
			then: func(p *pod) {
				p.inApp, p.appClasses, p.proxyLook.InFlight, p.proxyLook.Classes = drain.Known(0), nil, drain.Known(1), nil
			},
			appEnds: func(p *pod) { p.proxyLook.InFlight = drain.Known(0) },
		},
		"all of it ends in time, nobody sees whether the app does": {
			noSource: true,
			then: func(p *pod) {
				p.appLive, p.proxyLook.InFlight, p.proxyLook.Classes = drain.Unseen, drain.Known(0), nil
			},
			appEnds: func(p *pod) { p.appLive = drain.Unseen },
		},
		"envoy no longer tells classes after the app's end": {
			noSource: true,
			appEnds:  func(p *pod) { p.proxyLook.Classes = nil },
			want:     classes{"proxy": 1, "proxy websocket": 2},
		},
		"envoy is cut": {
			then: func(p *pod) {
				p.inApp, p.appClasses, p.proxyLook.InFlight, p.proxyLook.Classes = drain.Known(0), nil, drain.Known(1), classes{"tcp": 1}
			},
			want: classes{"proxy tcp": 1},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, p *pod) {
				p.inApp, p.appClasses = drain.Known(3), classes{"grpc_stream": 1}
				p.proxyLook.InFlight, p.proxyLook.Classes = drain.Known(3), classes{"websocket": 2}
				if tt.noSource {
					p.cfg.World.Apps = nil
					p.cfg.Policy.Sources = nil
				}
				if tt.appEnds != nil {
					p.appEnds = func() { tt.appEnds(p) }
				}
				p.stopped()
				p.until("the app is let go", answered(p))
				if tt.then != nil {
					p.set(func() { tt.then(p) })
				}
				p.code()
				if v := p.verdict(); v.Outcome != "deadline" || !maps.Equal(v.Cut, tt.want) {
					t.Errorf("%s, cut %v, want %v", v.Outcome, v.Cut, tt.want)
				}
			})
		})
	}
}

// An Envoy that was told to stop breaks off what it has, and may still be asked before it ends: its zero is the cut itself. One whose owner
// lets it finish tells the truth.
func TestLastAnswersOfAnEnvoyThatEnds(t *testing.T) {
	for name, tt := range map[string]struct {
		lingers bool
		after   int64
		want    map[string]int64
	}{
		"broken off":    {after: 0, want: map[string]int64{"proxy": 2, "bytes": 4096}},
		"one more":      {after: 3, want: map[string]int64{"proxy": 3, "bytes": 4096}},
		"let to finish": {lingers: true, after: 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, p *pod) {
				p.lingers = tt.lingers
				p.proxyLook.InFlight, p.proxyLook.Bytes = drain.Known(2), drain.Known(4096)
				p.stopped()
				p.until("the proxy is let go", func() bool { return p.said("answer proxy") })
				p.set(func() { p.proxyLook.InFlight, p.proxyLook.Bytes = drain.Known(tt.after), drain.Known(0) })
				p.code()
				if v := p.verdict(); v.Outcome != "deadline" || !maps.Equal(v.Cut, tt.want) {
					t.Errorf("%s, cut %v, want %v", v.Outcome, v.Cut, tt.want)
				}
			})
		})
	}
}

// An Envoy that goes on after its hook was answered, as a native sidecar does beside an app that ends later, has finished what it says it has.
func TestAnswersOfAnEnvoyThatIsToldToEndLater(t *testing.T) {
	for goesOn, want := range map[time.Duration]map[string]int64{
		1500 * time.Millisecond: {},
		500 * time.Millisecond:  {"proxy": 2, "bytes": 4096},
	} {
		t.Run(goesOn.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T, p *pod) {
				p.goesOn = goesOn
				p.proxyLook.InFlight, p.proxyLook.Bytes = drain.Known(2), drain.Known(4096)
				p.stopped()
				p.until("the proxy is let go", func() bool { return p.said("answer proxy") })
				p.set(func() { p.proxyLook.InFlight, p.proxyLook.Bytes = drain.Known(0), drain.Known(0) })
				p.code()
				if v := p.verdict(); v.Outcome != "deadline" || !maps.Equal(v.Cut, want) {
					t.Errorf("%s, cut %v, want %v", v.Outcome, v.Cut, want)
				}
			})
		})
	}
}

// Who calls a hook again changes nothing about when its container was let go.
func TestCutStandsWhereAHookIsCalledAgain(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.cfg.Policy.Containers = slices.Clone(p.cfg.Policy.Containers)
		p.cfg.Policy.Containers[app].Stage, p.cfg.Policy.Containers[proxy].Stage = 1, 0
		p.proxyLook.InFlight = drain.Known(7)
		p.appEnds = func() { p.appLive, p.inApp, p.appErr = drain.Up, drain.Known(0), nil } // it ignores SIGTERM
		p.stopped()
		p.until("the app is let go", func() bool { return p.said("answer app") })
		p.pass(time.Second)
		p.hook("proxy") // by anybody
		p.code()
		if v := p.verdict(); v.Outcome != "deadline" || v.Cut["proxy"] != 7 {
			t.Errorf("%s, cut %v, want 7 in the proxy\n%s", v.Outcome, v.Cut, p.story())
		}
	})
}

// Nothing was cut where no process ended, and what could not be read when its process was let go is not named.
func TestCutNamesNothingElse(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.inApp = drain.Known(3)
		p.start()
		p.pass(time.Second)
		for _, name := range []string{"app", "proxy", "agent"} {
			p.hook(name) // by anybody
		}
		p.until("aborted", func() bool { return len(p.verdicts()) == 1 })
		if v := p.verdict(); v.Outcome != "aborted" || len(v.Cut) != 0 {
			t.Errorf("%s, cut %v", v.Outcome, v.Cut)
		}
	})
	bubble(t, func(t *testing.T, p *pod) {
		p.inApp = drain.Known(3)
		p.start()
		p.pass(time.Second)
		p.stopAll()
		p.pass(5 * time.Second)
		p.set(func() { p.inApp = drain.Count{} })
		p.code()
		if v := p.verdict(); v.Outcome != "deadline" || len(v.Cut) != 0 {
			t.Errorf("%s, cut %v", v.Outcome, v.Cut)
		}
	})
}

// In observe mode requests fail while the app stops: each is named once, whether it was in flight when the app ended or came later.
func TestObserveModeNamesWhatFailed(t *testing.T) {
	for name, tt := range map[string]struct {
		errors, at drain.Count // before the stop, and at its end
		inFlight   int64       // in Envoy when the app ends, of which all but the WebSocket fail at once
		want       map[string]int64
	}{
		"those that came later":       {drain.Known(7), drain.Known(17), 0, map[string]int64{"proxy errors": 10}},
		"those in flight and later":   {drain.Known(7), drain.Known(17), 4, map[string]int64{"proxy errors": 10, "proxy websocket": 1}},
		"a response that is cut off":  {drain.Known(7), drain.Known(8), 4, map[string]int64{"proxy errors": 1, "proxy requests": 2, "proxy websocket": 1}},
		"nobody counts what fails":    {drain.Count{}, drain.Count{}, 4, map[string]int64{"proxy requests": 3, "proxy websocket": 1}},
		"nothing failed in this stop": {drain.Known(7), drain.Known(7), 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, p *pod) {
				p.cfg.Policy.Observe = true
				p.cfg.Policy.Containers[proxy].Sleep = 5 * time.Second // it is read once more after the app's end
				p.cfg.World.Apps, p.cfg.Policy.Sources = nil, nil
				p.proxyLook.Errors, p.proxyLook.InFlight = tt.errors, drain.Known(tt.inFlight)
				if tt.inFlight > 0 {
					p.proxyLook.Classes = map[string]int64{"requests": tt.inFlight - 1, "websocket": 1}
				}
				p.appEnds = func() {
					p.proxyLook.Errors, p.proxyLook.InFlight, p.proxyLook.Classes = tt.at, drain.Known(0), nil
				}
				p.stopped()
				p.code()
				if v := p.verdict(); !maps.Equal(v.Cut, tt.want) {
					t.Errorf("cut %v, want %v", v.Cut, tt.want)
				}
			})
		})
	}
}

// Envoy's errors come from one rung only. When that is given up in mid-stop, what it said last still counts, and its age is told.
func TestErrorsReadOnceStayKnown(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.cfg.Policy.Observe = true
		p.cfg.Policy.Containers[proxy].Sleep = 5 * time.Second
		p.cfg.World.Apps, p.cfg.Policy.Sources = nil, nil
		p.proxyLook.Errors = drain.Known(7)
		p.appEnds = func() { p.proxyLook.Errors = drain.Known(17) }
		p.stopped()
		p.pass(2 * time.Second)
		p.set(func() { p.proxyLook.Errors = drain.Count{} })
		p.code()
		if v := p.verdict(); !maps.Equal(v.Cut, map[string]int64{"proxy errors": 10}) {
			t.Errorf("cut %v, want the ten errors that were seen\n%s", v.Cut, p.story())
		}
		ago := regexp.MustCompile(`read last (\d+) ms ago`).FindStringSubmatch(p.story())
		if len(ago) != 2 {
			t.Fatalf("no word of the last look\n%s", p.story())
		}
		if ms, _ := strconv.Atoi(ago[1]); ms < 1000 {
			t.Errorf("errors were read %d ms ago, want the seconds since their rung was given up", ms)
		}
	})
}
