package drain

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/scripts/promises"
)

// idleAfter plays an idle pod with a change before its stop at 10 s.
func idleAfter(change func(w *world)) func(w *world) {
	return func(w *world) {
		w.run(10*sec, nil)
		change(w)
		w.stop()
		w.run(60*sec, nil)
	}
}

// Zero is requests and bytes.
func TestBytes(t *testing.T) {
	obey(t, map[string]rule{
		"bytes in a send queue hold": {
			play: func(w *world) {
				w.queued = Known(3_700_000)
				w.run(10*sec, nil)
				w.stop()
				w.run(14*sec, nil)
				w.queued = Known(0)
				w.run(60*sec, nil)
			},
			want: []string{"14.075s  draining -> settling", "14.2", "answer app", "verdict clean"},
		},
		"bytes in Envoy's buffers hold while they move": {
			play: func(w *world) {
				w.run(10*sec, nil)
				w.stop()
				w.onPoll = func(w *world) { w.buffered = Known(max(0, int64(20*sec-w.now))) }
				w.run(60*sec, nil)
			},
			want: []string{"20.075s  draining -> settling", "answer app", "verdict clean"},
		},
		"what stands still in Envoy's buffers for five seconds does not": {
			play: idleAfter(func(w *world) { w.buffered = Known(834_465) }),
			want: []string{"15.025s  draining -> settling", "answer app", "verdict clean"},
		},
		"bytes outrank quiet-max": {
			policy: func(p *Policy) { p.QuietMax = sec },
			play:   idleAfter(func(w *world) { w.queued = Known(5) }),
			want:   []string{"31.000s  draining -> stopping: grace period budget is over", "verdict deadline"},
		},
		"uncounted bytes hold for quiet-max while a connection is open, and it is said": {
			play: idleAfter(func(w *world) { w.queued, w.conns = Count{}, Known(3) }),
			want: []string{"26.500s  draining -> settling: nothing in flight; quiet-max of 15s is over", "settling -> stopping: zero held for the settle time of 200ms; bytes on their way to clients could not be counted", "answer app", "verdict clean"},
		},
		"bytes in Envoy that stand still do so too while nobody can read them for a moment": {
			play: idleAfter(func(w *world) {
				w.buffered = Known(834_465)
				w.onPoll = func(w *world) {
					if w.buffered = Known(834_465); w.now > 12*sec && w.now < 12200*ms {
						w.buffered = Count{}
					}
				}
			}),
			want: []string{"settling -> draining: 834465 bytes", "15.050s  draining -> settling", "answer app", "verdict clean"},
		},
		"uncounted bytes hold nobody where no connection is open": {
			play: idleAfter(func(w *world) { w.queued = Count{} }),
			want: []string{"11.7", "answer app", "verdict clean", "!could not be counted"},
		},
		"bytes that come back end the settling": {
			play: func(w *world) {
				w.run(10*sec, nil)
				w.stop()
				w.run(60*sec, func() bool { return w.s.Phase == Settling })
				w.queued = Known(1)
				w.run(w.now+sec, nil)
				w.queued = Known(0)
				w.run(60*sec, nil)
			},
			want: []string{"draining -> settling", "settling -> draining: 1 bytes", "draining -> settling", "answer app"},
		},
		"Envoy is let go when its last bytes are gone": {
			play: func(w *world) {
				w.run(10*sec, nil)
				w.stop()
				w.run(60*sec, func() bool { return w.s.Phase == Stopping })
				w.queued = Known(1000)
				w.run(w.now+700*ms, nil)
				w.queued = Known(0)
				w.run(60*sec, nil)
			},
			want: []string{"11.700s  answer app", "12.425s  answer proxy", "verdict clean"},
		},
	})
}

// What ends a wait never shortens one of a higher rank.
func TestRanks(t *testing.T) {
	for _, quietMax := range []time.Duration{0, ms, sec, 4 * sec, 15 * sec, 300 * sec} {
		p := Defaults()
		p.Grace, p.Propagation, p.QuietMax = 200*sec, 120*sec, quietMax
		w := newWorld(p)
		idleAfter(func(*world) {})(w)
		w.run(400*sec, nil)
		if got := w.answered[app]; got < 130*sec || got > 130*sec+700*ms {
			t.Errorf("quiet-max %v: app released at %v; want propagation kept, and nothing longer", quietMax, got)
		}
	}
	obey(t, map[string]rule{
		"quiet-max counts from the end of propagation": {
			policy: func(p *Policy) { p.Propagation, p.QuietMax = 3*sec, 4*sec },
			play:   idleAfter(func(w *world) { w.newConns, w.rqs, w.conns = Count{}, Count{}, Count{} }),
			want:   []string{"17.000s  draining -> settling: nothing in flight; quiet-max of 4s is over", "answer app"},
		},
		"requests outrank quiet-max": {
			policy: func(p *Policy) { p.QuietMax = 0 },
			play:   idleAfter(func(w *world) { w.app = Known(1) }),
			want:   []string{"31.000s  draining -> stopping: grace period budget is over"},
		},
		"an Envoy that is described only after the first look at it costs nothing": {
			play: func(w *world) {
				w.s, w.watch = State{}, promises.Watch{}
				w.run(100*ms, nil)
				w.stop()
				w.run(400*ms, nil)
				w.send(Input{Kind: Described, Facts: ProxyFacts{Known: true, Directed: true, Uptime: time.Hour}})
				w.run(60*sec, nil)
			},
			want: []string{"1.800s  answer app", "verdict clean"},
		},
		"a wait that was over by itself is not called quiet-max": {
			policy: func(p *Policy) { p.QuietMax = 0 },
			play:   idleAfter(func(*world) {}),
			want:   []string{"11.500s  draining -> settling: nothing in flight, nobody sends", "answer app", "!quiet-max"},
		},
	})
}

// checked lets somebody look at the pod's port every period, with a request or without.
func checked(period time.Duration, request bool) func(w *world) {
	return func(w *world) {
		w.send(Input{Kind: Described, Facts: ProxyFacts{Known: true, Directed: true, Requests: true, Uptime: time.Hour}})
		last := w.now
		w.onPoll = func(w *world) {
			for ; w.now-last >= period; last += period {
				w.newConns.N, w.sockNew.N = w.newConns.N+1, w.sockNew.N+1
				if request {
					w.rqs.N++
				}
			}
		}
	}
}

// Connections that carry no request, and known probes, are nobody's traffic.
func TestCheckersHoldNobody(t *testing.T) {
	for _, period := range []time.Duration{sec, 1500 * ms, 2 * sec, 5 * sec, 10 * sec} {
		for _, phase := range []time.Duration{0, 300 * ms, 600 * ms, 900 * ms} {
			for name, tt := range map[string]struct {
				request bool
				policy  func(*Policy)
				hide    bool // only the sockets tell of connections
			}{
				"TCP":             {},
				"TCP, by sockets": {hide: true},
				"HTTP":            {request: true, policy: func(p *Policy) { p.Background = 1 / period.Seconds() }},
			} {
				p := Defaults()
				if tt.policy != nil {
					tt.policy(&p)
				}
				w := newWorld(p)
				w.sockConns, w.sockNew = Known(0), Known(0)
				if tt.hide {
					w.conns, w.newConns = Count{}, Count{}
				}
				checked(period, tt.request)(w)
				w.run(10*sec+phase, nil)
				w.poll()
				w.stop()
				began := w.now
				w.run(60*sec, nil)
				if got := w.answered[app] - began; got > 2200*ms {
					t.Errorf("%s check every %v: released after %v", name, period, got)
				}
			}
		}
	}
}

// A client whose request comes a little after its connection is one all the same.
func TestSlowFirstRequestIsTraffic(t *testing.T) {
	for _, lag := range []time.Duration{0, 100 * ms, 400 * ms} {
		w := newWorld(Defaults())
		w.send(Input{Kind: Described, Facts: ProxyFacts{Known: true, Directed: true, Requests: true, Uptime: time.Hour}})
		w.run(10*sec, nil)
		w.stop()
		w.onPoll = func(w *world) {
			if w.now < 20*sec {
				w.newConns = Known(int64((w.now - 10*sec) / (600 * ms)))
				w.rqs = Known(max(0, int64((w.now-10*sec-lag)/(600*ms))))
			}
		}
		w.run(60*sec, nil)
		if w.answered[app] < 20*sec {
			t.Errorf("requests %v after their connections: released at %v while they came", lag, w.answered[app])
		}
	}
}

// The docs' table of waits is the code's.
func TestWaitsAreDocumented(t *testing.T) {
	const page = "../../../docs/explanation/how-a-drain-works.md"
	var b strings.Builder
	b.WriteString("| rank | waited for | until |\n|---|---|---|\n")
	for _, w := range Waits() {
		b.WriteString("| " + w.Rank.String() + " | " + w.For + " | " + w.Until + " |\n")
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- waits -->\n", "<!-- /waits -->"
	head, rest, ok := strings.Cut(string(text), begin)
	table, tail, ok2 := strings.Cut(rest, end)
	switch {
	case !ok || !ok2:
		t.Fatalf("%s has no place for the table", page)
	case table == b.String():
	case *update:
		if err := os.WriteFile(page, []byte(head+begin+b.String()+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s: the table of waits is not the code's; run with -update", page)
	}
}
