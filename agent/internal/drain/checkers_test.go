package drain

import (
	"fmt"
	"testing"
	"time"
)

// checkedUntilItsStop plays an idle pod to which somebody comes every so often, on a new connection each time, before its stop and after.
func checkedUntilItsStop(w *world, every time.Duration, come func(w *world)) {
	w.sockConns, w.sockNew, w.queued = Known(0), Known(0), Known(0)
	w.p.IdleSample = 10 * sec
	w.send(Input{Kind: Described, Facts: ProxyFacts{Known: true, Directed: true, Requests: true, Uptime: w.now}})
	next := every
	for stopped := false; w.now < 120*sec && !w.exited; {
		until := next
		if !stopped {
			until = min(next, 60*sec)
		}
		w.run(until, nil)
		if w.now >= 60*sec && !stopped {
			stopped = true
			w.send(Input{Kind: Described, Facts: ProxyFacts{Known: true, Directed: true, Requests: true, Uptime: w.now}})
			w.stop()
		}
		if w.now >= next {
			come(w)
			next += every
		}
	}
}

// TCP checkers cost nothing without a flag, HTTP checkers and scrapers with the right --background; without it the log says which.
func TestCheckersOfAnIdlePod(t *testing.T) {
	tcp := func(w *world) { w.newConns.N, w.sockNew.N = w.newConns.N+1, w.sockNew.N+1 }
	// Kubelet's readiness and liveness, both once a second and half a second apart, and several balancers' checks.
	for _, every := range []time.Duration{300 * ms, 400 * ms, 500 * ms} {
		t.Run(fmt.Sprintf("TCP every %v", every), func(t *testing.T) {
			w := newWorld(Defaults())
			checkedUntilItsStop(w, every, tcp)
			if held := w.answered[app] - w.calledAt[app]; held == 0 || held > 2500*ms {
				t.Errorf("app held for %v, at most 2.5s", held)
			}
		})
	}
	for every := sec; every <= 10*sec; every += sec {
		rate := 1 / every.Seconds()
		for name, c := range map[string]struct {
			come       func(*world)
			background float64
			within     time.Duration
		}{
			"TCP":                    {tcp, 0, 2200 * ms},
			"HTTP with --background": {(*world).arrive, rate, 2200 * ms},
			"HTTP without it":        {(*world).arrive, 0, 17200 * ms},
		} {
			t.Run(fmt.Sprintf("%s every %v", name, every), func(t *testing.T) {
				w := newWorld(Defaults())
				w.p.Background = c.background
				w.check = func(w *world, _ Decision, broken string) {
					if broken != "" {
						t.Fatalf("at %v: %s", w.now, broken)
					}
				}
				checkedUntilItsStop(w, every, c.come)
				held := w.answered[app] - w.calledAt[app]
				t.Logf("held for %v", held)
				if held == 0 || held > c.within {
					t.Errorf("app held for %v, at most %v", held, c.within)
				}
				if held > 16*sec {
					expect(t, w.events, []string{fmt.Sprintf("as before the stop: if these are probes and scrapes through Envoy, say --background=%.2g", rate), "verdict clean"})
				}
			})
		}
	}
}
