package drain

import (
	"strings"
	"testing"
	"time"
)

// alone is a pod of one app and the agent, without an Envoy, that was born two minutes ago.
func alone(conns int64) *world {
	p := Defaults()
	p.Containers = []Container{{Name: "app", Stop: 5 * sec}, {Name: "agent", Stage: -1, Agent: true}}
	p.Hooks, p.ProxyAdmin = 0b11, false
	w := newWorld(p)
	w.proxy, w.conns, w.newConns, w.rqs, w.buffered = Count{}, Count{}, Count{}, Count{}, Count{}
	w.sockConns, w.sockNew, w.sockData, w.signals = Known(conns), Known(conns), Known(0), true
	return w
}

// stopped stops it and returns how long the app's hook was held.
func (w *world) stopped(t *testing.T) time.Duration {
	t.Helper()
	w.run(120*sec, nil)
	w.stop()
	w.run(160*sec, nil)
	if !w.exited || w.answered[0] == 0 {
		t.Fatalf("the stop did not end:\n%s", w.log.String())
	}
	return w.answered[0] - 120*sec
}

// TestStopWithoutAProxy: clients are judged by the sockets, and what they send stands for requests. What nobody can hit any more is let
// go after the propagation; connections that are in use hold it, at most for quiet-max.
func TestStopWithoutAProxy(t *testing.T) {
	const soon = 1500*ms + 500*ms
	talking := func(until time.Duration, each float64) func(*world) {
		return func(w *world) {
			w.onPoll = func(w *world) { w.sockData = Known(int64(min(w.now, until).Seconds() * each)) }
		}
	}
	for name, test := range map[string]struct {
		conns       int64
		set         func(*world)
		least, most time.Duration
	}{
		"nobody": {0, nil, 1500 * ms, soon},
		"nobody, and what clients send is not told":     {0, func(w *world) { w.sockData = Count{} }, 1500 * ms, soon},
		"300 connections that never sent anything":      {300, nil, 1500 * ms, soon},
		"a scrape in 15 s on one connection":            {1, talking(time.Hour, 1.0/15), 1500 * ms, soon},
		"10 connections, 10 a second, until the stop":   {10, talking(120*sec, 10), 9 * sec, 11 * sec},
		"10 connections, 10 a second, and on":           {10, talking(time.Hour, 10), 16 * sec, 17500 * ms},
		"10 connections, and nobody tells what is sent": {10, func(w *world) { w.sockData = Count{} }, 16 * sec, 17500 * ms},
		"10 connections, 10 a second, closed at 4 s": {10, func(w *world) {
			w.onPoll = func(w *world) {
				if w.sockData = Known(int64(w.now/sec) * 10); w.now > 124*sec {
					w.sockConns, w.sockData = Known(0), Known(1240)
				}
			}
		}, 4 * sec, 5 * sec},
		"one request of 9 s, its connection closed with it": {1, func(w *world) {
			w.app = Known(1)
			w.onPoll = func(w *world) {
				if w.now > 129*sec {
					w.app, w.sockConns = Known(0), Known(0)
				}
			}
		}, 9 * sec, 9500 * ms},
		"new connections for 6 s": {0, func(w *world) {
			w.onPoll = func(w *world) { w.sockNew = Known(int64(min(w.now, 126*sec) / (400 * ms))) }
		}, 6 * sec, 8500 * ms},
	} {
		t.Run(name, func(t *testing.T) {
			w := alone(test.conns)
			if test.set != nil {
				test.set(w)
			}
			if held := w.stopped(t); held < test.least || held > test.most {
				t.Errorf("the app was held for %v, want %v to %v\n%s", held, test.least, test.most, w.log.String())
			}
			if w.verdicts[0] != Clean || strings.Contains(w.log.String(), "do ") {
				t.Errorf("want a clean stop, and nothing done to anybody:\n%s", w.log.String())
			}
		})
	}
}

// TestScoreWithoutAProxyCountsTheApp: what stopping now would hit is what the apps' sources say.
func TestScoreWithoutAProxyCountsTheApp(t *testing.T) {
	w := alone(3)
	w.app = Known(3)
	w.run(120*sec, nil)
	w.stop()
	w.run(125*sec, nil)
	if score, known := Score(&w.p, &w.s); !known || score < 3 {
		t.Errorf("score %v, %v with three requests in the app", score, known)
	}
	for _, conns := range []int64{0, 3} {
		w.sockConns, w.app = Known(conns), Count{}
		w.run(w.now+5*sec, nil)
		if score, known := Score(&w.p, &w.s); known {
			t.Errorf("score %v with %d connections, and nobody knows how many requests are in the app", score, conns)
		}
	}
}

// TestTimerModeWithAnEnvoyKnowsNoClients: behind an Envoy that cannot be read, the connections at the app's port are that Envoy's pool.
// Its clients may hold theirs at the Envoy: an empty pool proves nothing, and what comes through it is no measure of what comes next.
func TestTimerModeWithAnEnvoyKnowsNoClients(t *testing.T) {
	for name, conns := range map[string]int64{"an empty pool": 0, "a pool": 3} {
		t.Run(name, func(t *testing.T) {
			p := Defaults()
			p.ProxyAdmin = false
			w := newWorld(p)
			w.proxy, w.conns, w.newConns, w.rqs, w.buffered = Count{}, Count{}, Count{}, Count{}, Count{}
			w.sockConns, w.sockNew, w.sockData, w.signals = Known(conns), Known(conns), Known(0), true
			held := w.stopped(t)
			if score, known := Score(&w.p, &w.s); known || w.s.Load.Known {
				t.Errorf("score %v, load %+v: nobody sees the clients", score, w.s.Load)
			}
			if held < 16*sec {
				t.Errorf("the app was let go after %v, before quiet-max\n%s", held, w.log.String())
			}
		})
	}
}
