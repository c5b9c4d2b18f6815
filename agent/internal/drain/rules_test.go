package drain

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/scripts/promises"
)

const (
	app   = ID(0)
	proxy = ID(1)
	agent = ID(2)
	sec   = time.Second
	ms    = time.Millisecond
)

// rule is a story about one rule.
type rule struct {
	policy func(p *Policy)
	play   func(w *world)
	want   []string // in this order among the events; "!x" must not occur at all
}

// obey plays the stories, and checks every promise after every step of each.
func obey(t *testing.T, rules map[string]rule) {
	t.Helper()
	for name, tt := range rules {
		t.Run(name, func(t *testing.T) {
			p := Defaults()
			if tt.policy != nil {
				tt.policy(&p)
			}
			w := newWorld(p)
			w.check = func(w *world, d Decision, broken string) {
				if broken != "" {
					t.Fatalf("at %v: %s", w.now, broken)
				}
			}
			tt.play(w)
			expect(t, w.events, tt.want)
		})
	}
}

// refusedWhile has Envoy refuse an action while an operator changes his mind: before the app's hook comes, and once after it.
func refusedWhile(refuses Actions, before []Kind, after Kind) func(*world) {
	return func(w *world) {
		w.run(5*sec, nil)
		w.actFails = refuses
		for _, kind := range before {
			w.send(Input{Kind: kind})
		}
		w.hook(app)
		w.send(Input{Kind: after})
		w.run(60*sec, nil)
	}
}

func TestRules(t *testing.T) {
	obey(t, map[string]rule{
		"idle pod stops after propagation and settle": {
			play: func(w *world) { w.run(10*sec, nil); w.stop(); w.run(60*sec, nil) },
			want: []string{"hook app", "confirming -> announcing", "announcing -> draining", "draining -> settling", "11.7", "answer app", "answer proxy", "answer agent", "verdict clean", "exit 0"},
		},
		"one hook is a container restart": {
			play: func(w *world) { w.app = Known(0); w.run(10*sec, nil); w.hook(app); w.run(20*sec, nil) },
			want: []string{"serving -> confirming", "11.000s  confirming -> holding", "answer app", "verdict container_restart", "!do ", "!draining"},
		},
		"a busy container restart is held for restart-max and no longer": {
			play: func(w *world) { w.app = Known(3); w.run(10*sec, nil); w.hook(app); w.run(20*sec, nil) },
			want: []string{"12.000s  holding -> serving", "answer app", "verdict container_restart", "!do "},
		},
		"one hook is not held beyond a grace period shorter than confirm-window": {
			policy: func(p *Policy) { p.Grace = sec },
			play:   func(w *world) { w.app = Known(3); w.run(10*sec, nil); w.hook(app); w.run(20*sec, nil) },
			want:   []string{"10.829s  holding -> serving", "answer app", "verdict container_restart"},
		},
		"a second container's fact while the first is held is a pod stop": {
			play: func(w *world) {
				w.app = Known(3)
				w.run(10*sec, nil)
				w.hook(app)
				w.run(11500*ms, nil)
				w.hook(proxy)
				w.run(12*sec, nil)
				w.app = Known(0)
				w.run(60*sec, nil)
			},
			want: []string{"holding -> announcing", "draining -> settling", "verdict clean"},
		},
		"our own SIGTERM alone is an agent restart": {
			play: func(w *world) { w.run(10*sec, nil); w.sigterm(); w.run(20*sec, nil) },
			want: []string{"11.400s  confirming -> finished", "verdict container_restart", "exit 0", "!do "},
		},
		"classic: SIGTERM and then the hooks": {
			policy: func(p *Policy) { p.Hooks = 0b011 },
			play: func(w *world) {
				w.run(10*sec, nil)
				w.sigterm()
				w.run(10050*ms, nil)
				w.hook(app)
				w.hook(proxy)
				w.run(60*sec, nil)
			},
			want: []string{"confirming -> announcing", "do drain_listeners", "answer app", "answer proxy", "verdict clean", "!healthcheck_fail"},
		},
		"no irreversible lever without a fact that nobody can forge": {
			play: func(w *world) { w.run(10*sec, nil); w.stop(); w.run(60*sec, nil) },
			want: []string{"do healthcheck_fail", "!drain_listeners"},
		},
		"a gradual strategy with a long window gets the reversible lever too": {
			policy: func(p *Policy) { p.Hooks = 0b011 },
			play: func(w *world) {
				w.send(Input{Kind: Described, Facts: ProxyFacts{Known: true, Gradual: true, DrainTime: 600 * sec, Uptime: sec}})
				w.run(10*sec, nil)
				w.sigterm()
				w.hook(app)
				w.run(60*sec, nil)
			},
			want: []string{"do healthcheck_fail+drain_listeners"},
		},
		"unknown is never zero": {
			play: func(w *world) { w.app = Count{}; w.run(10*sec, nil); w.stop(); w.run(60*sec, nil) },
			want: []string{"31.000s  draining -> stopping: grace period budget is over", "answer app", "verdict deadline", "exit 2", "!settling"},
		},
		"an unknown source stops counting when its process is proved gone": {
			play: func(w *world) {
				w.app = Count{}
				w.run(10*sec, nil)
				w.stop()
				w.run(13*sec, nil)
				w.live[app] = Gone
				w.run(60*sec, nil)
			},
			want: []string{"draining -> stopping: app died", "answer app", "answer proxy", "verdict app_died", "exit 6"},
		},
		"a port that nobody ever listened on proves nothing": {
			play: func(w *world) {
				w.s, w.watch = State{}, promises.Watch{} // nobody has ever seen the app
				w.live[app], w.app = Gone, Count{}
				w.send(Input{Kind: Described, Facts: ProxyFacts{Known: true, Directed: true, Uptime: time.Hour}})
				w.run(10*sec, nil)
				w.stop()
				w.run(60*sec, nil)
			},
			want: []string{"31.000s  draining -> stopping: grace period budget is over", "answer app", "verdict deadline"},
		},
		"what ended before the stop is not waited for, and did not die in it": {
			play: func(w *world) {
				w.run(5*sec, nil)
				w.live[app], w.app = Gone, Count{}
				w.run(10*sec, nil)
				w.hook(proxy)
				w.hook(agent)
				w.run(60*sec, nil)
			},
			want: []string{"11.7", "answer proxy", "verdict clean"},
		},
		"dead proxy releases the app": {
			play: func(w *world) {
				w.app = Known(2)
				w.run(10*sec, nil)
				w.stop()
				w.run(13*sec, nil)
				w.live[proxy], w.proxy = Gone, Count{}
				w.run(60*sec, nil)
			},
			want: []string{"13.275s  draining -> stopping: proxy died", "answer app", "answer proxy", "verdict proxy_died", "exit 4"},
		},
		"a request that never ends: order, whole share, deadline": {
			play: func(w *world) {
				w.app, w.proxy = Known(1), Known(1)
				w.endsAfter[app], w.endsAfter[agent] = -1, -1
				w.run(10*sec, nil)
				w.stop()
				w.run(60*sec, nil)
			},
			want: []string{"31.000s  answer app", "36.000s  answer proxy", "answer agent", "verdict deadline", "exit 2"},
		},
		"SIGTERM while our own hook is held: the grace is over": {
			play: func(w *world) {
				w.app = Known(1)
				w.run(10*sec, nil)
				w.stop()
				w.run(14*sec, nil)
				w.sigterm()
				w.run(60*sec, nil)
			},
			want: []string{"14.000s  draining -> stopping: SIGTERM while our hook was held: grace was 4s, configured 30s", "answer app", "14.000s  answer proxy", "14.000s  answer agent", "verdict deadline"},
		},
		"traffic that returns ends the settling": {
			play: func(w *world) {
				w.run(10*sec, nil)
				w.stop()
				w.run(11600*ms, nil)
				w.proxy = Known(1)
				w.run(13*sec, nil)
				w.proxy = Known(0)
				w.run(60*sec, nil)
			},
			want: []string{"settling -> draining", "13.025s  draining -> settling", "answer app", "verdict clean"},
		},
		"new connections hold the app, four times their gap": {
			play: func(w *world) {
				w.run(10*sec, nil)
				w.stop()
				w.onPoll = func(w *world) {
					if n := int64((w.now - 10*sec) / (400 * ms)); w.now < 14*sec {
						w.newConns, w.rqs = Known(n), Known(n)
					}
				}
				w.run(60*sec, nil)
			},
			want: []string{"announce-max", "answer app", "verdict clean", "!quiet-max"},
		},
		"requests on connections that no look at the sockets sees are new connections": {
			play: func(w *world) {
				w.newConns, w.conns, w.sockConns, w.sockNew = Count{}, Count{}, Known(0), Known(0)
				w.run(10*sec, nil)
				w.stop()
				w.onPoll = func(w *world) {
					if w.now < 14*sec {
						w.rqs = Known(int64((w.now - 10*sec) / (200 * ms)))
					}
				}
				w.run(13900*ms, nil)
				w.note("still coming")
				w.run(60*sec, nil)
			},
			want: []string{"announce-max", "still coming", "answer app", "verdict clean", "!quiet-max"},
		},
		"a request on a kept-alive connection is no new connection": {
			play: func(w *world) {
				w.newConns, w.conns, w.sockConns, w.sockNew = Count{}, Count{}, Known(1), Known(0)
				w.run(10*sec, nil)
				w.stop()
				w.onPoll = func(w *world) {
					if w.now > 10300*ms {
						w.rqs, w.sockConns = Known(1), Known(0)
					}
				}
				w.run(60*sec, nil)
			},
			want: []string{"10.525s  announcing -> draining: no new connection", "answer app"},
		},
		"nobody can tell the arrivals: quiet-max, and said so": {
			play: func(w *world) {
				w.newConns, w.rqs, w.conns = Count{}, Count{}, Count{}
				w.run(10*sec, nil)
				w.stop()
				w.run(60*sec, nil)
			},
			want: []string{"quiet-max", "answer app", "verdict clean"},
		},
		"strangers call two hooks: undone after abort, the next stop works": {
			play: func(w *world) {
				w.endsAfter[app], w.endsAfter[proxy] = -1, -1
				w.run(10*sec, nil)
				w.hook(app)
				w.hook(proxy)
				w.run(60*sec, nil)
				w.endsAfter[app], w.endsAfter[proxy] = 100*ms, 100*ms
				w.stop()
				w.run(120*sec, nil)
			},
			want: []string{"do healthcheck_fail", "finished -> serving", "do healthcheck_ok", "verdict aborted", "60.000s  hook app", "do healthcheck_fail", "verdict clean"},
		},
		"strangers cannot make us quit Envoy": {
			policy: func(p *Policy) { p.QuitProxy = true },
			play: func(w *world) {
				w.endsAfter[app], w.endsAfter[proxy], w.endsAfter[agent] = -1, -1, -1
				w.run(10*sec, nil)
				w.stop()
				w.run(60*sec, nil)
			},
			want: []string{"verdict aborted", "!quit_proxy"},
		},
		"Envoy is quit at the end of a proved stop": {
			policy: func(p *Policy) { p.QuitProxy = true },
			play:   func(w *world) { w.run(10*sec, nil); w.stop(); w.run(60*sec, nil) },
			want:   []string{"answer agent", "do quit_proxy", "verdict clean"},
		},
		"maintenance is left by undrain": {
			play: func(w *world) {
				w.run(10*sec, nil)
				w.send(Input{Kind: AskedDrain})
				w.run(20*sec, nil)
				w.send(Input{Kind: AskedUndrain})
				w.run(30*sec, nil)
			},
			want: []string{"serving -> maintenance", "do healthcheck_fail", "maintenance -> serving", "do healthcheck_ok", "verdict maintenance"},
		},
		"a pod stop in maintenance drains at once": {
			play: func(w *world) {
				w.send(Input{Kind: AskedDrain})
				w.run(20*sec, nil)
				w.stop()
				w.run(60*sec, nil)
			},
			want: []string{"confirming -> draining: already drained", "verdict clean"},
		},
		"a container restart in maintenance stays in maintenance": {
			play: func(w *world) {
				w.send(Input{Kind: AskedDrain})
				w.run(20*sec, nil)
				w.hook(app)
				w.run(60*sec, nil)
			},
			want: []string{"holding -> maintenance", "verdict container_restart", "!healthcheck_ok"},
		},
		"operator finishes": {
			play: func(w *world) {
				w.app = Known(1)
				w.run(10*sec, nil)
				w.stop()
				w.run(15*sec, nil)
				w.send(Input{Kind: AskedFinish})
				w.run(60*sec, nil)
			},
			want: []string{"15.000s  draining -> stopping: an operator asked to finish now", "answer app", "answer proxy", "verdict finished_by_operator", "exit 3"},
		},
		"unknown hook names are held with the first stage": {
			play: func(w *world) {
				w.run(10*sec, nil)
				w.hook(Stranger)
				w.stop()
				w.run(60*sec, nil)
			},
			want: []string{"settling -> stopping", "answer unknown", "answer proxy"},
		},
		"one hook only and no second fact possible: reversible levers": {
			policy: func(p *Policy) { p.Hooks = 0b001 },
			play:   func(w *world) { w.run(10*sec, nil); w.hook(app); w.run(60*sec, nil) },
			want:   []string{"confirming -> announcing: the only hook", "do healthcheck_fail", "answer app", "verdict clean"},
		},
		"what failed for a maintenance that nobody wants any more is not tried again before the drain": {
			policy: func(p *Policy) { p.Hooks = 0b001 },
			play:   refusedWhile(FailHealth, []Kind{AskedDrain}, AskedUndrain),
			want:   []string{"do healthcheck_fail", "confirming -> announcing: the only hook", "announcing -> draining", "do healthcheck_fail"},
		},
		"what failed when a maintenance ended is not tried again while somebody wants one": {
			play: refusedWhile(PassHealth, []Kind{AskedDrain, AskedUndrain}, AskedDrain),
			want: []string{"do healthcheck_ok", "serving -> confirming", "-> maintenance", "do healthcheck_fail"},
		},
		"a hook that comes late, after the next stage began, is let go and its container waited for": {
			policy: func(p *Policy) { p.Grace = 4 * sec },
			play: func(w *world) {
				w.every = 150 * ms
				w.run(5*sec, nil)
				w.hook(proxy)
				w.hook(agent)
				w.run(6200*ms, nil)
				w.hook(app)
				w.run(60*sec, nil)
			},
			want: []string{"answer proxy", "6.200s  answer app", "answer agent"},
		},
		"a job's end quits the proxy": {
			policy: func(p *Policy) { p.ExitWith = Set(0).With(app) },
			play: func(w *world) {
				w.run(10*sec, nil)
				w.live[app] = Gone
				w.run(60*sec, nil)
			},
			want: []string{"serving -> finished: app ended", "do quit_proxy", "verdict clean", "exit 0"},
		},
		"what an earlier agent left behind is undone": {
			play: func(w *world) { w.send(Input{Kind: Restored, Journal: Journal{HealthFailed: true}}); w.run(5*sec, nil) },
			want: []string{"do healthcheck_ok"},
		},
		"maintenance of an earlier agent is resumed": {
			play: func(w *world) {
				w.send(Input{Kind: Restored, Journal: Journal{Wanted: Intents(0).With(Operator)}})
				w.run(5*sec, nil)
			},
			want: []string{"serving -> maintenance", "do healthcheck_fail"},
		},
		"a grace period below the floor shrinks the shares": {
			policy: func(p *Policy) { p.Grace = 5 * sec },
			play: func(w *world) {
				w.app, w.endsAfter[app] = Known(1), -1
				w.run(10*sec, nil)
				w.stop()
				w.run(60*sec, nil)
			},
			want: []string{"verdict deadline", "exit 2"},
		},
		"the proxy first where the order says so": {
			policy: func(p *Policy) { p.Containers[0].Stage, p.Containers[1].Stage, p.Exposure = 1, 0, 5*ms },
			play:   func(w *world) { w.run(10*sec, nil); w.stop(); w.run(60*sec, nil) },
			want:   []string{"answer proxy", "answer app", "answer agent", "verdict clean"},
		},
		"a proxy that outlives us is not waited for": {
			policy: func(p *Policy) { p.Containers[1].Outlives = true },
			play: func(w *world) {
				w.endsAfter[proxy] = -1
				w.run(10*sec, nil)
				w.stop()
				w.run(60*sec, nil)
			},
			want: []string{"answer proxy", "answer agent", "verdict clean"},
		},
		"a zero of before its hook lets no proxy go": {
			play: func(w *world) {
				w.rare = 10 * sec
				w.run(10*sec, nil)
				w.poll()
				w.run(10*sec+sec/20, nil)
				w.hook(proxy)
				w.run(20*sec, nil)
			},
			want: []string{"confirming -> holding", "holding -> serving: proxy was held for the whole restart-max"},
		},
		"a failed action is asked for again": {
			play: func(w *world) {
				w.actFails = FailHealth
				w.run(10*sec, nil)
				w.stop()
				w.run(11200*ms, nil)
				w.actFails = 0
				w.run(60*sec, nil)
			},
			want: []string{"do healthcheck_fail", "do healthcheck_fail", "verdict clean"},
		},
	})
}

// expect finds the lines one after the other, each in an event of its own.
func expect(t *testing.T, events, want []string) {
	t.Helper()
	at := 0
	for _, line := range want {
		if no, ok := strings.CutPrefix(line, "!"); ok {
			if i := slices.IndexFunc(events, func(e string) bool { return strings.Contains(e, no) }); i >= 0 {
				t.Errorf("%q happened: %s", no, events[i])
			}
			continue
		}
		i := slices.IndexFunc(events[at:], func(e string) bool { return strings.Contains(e, line) })
		if i < 0 {
			t.Fatalf("no %q after line %d of\n%s", line, at, strings.Join(events, "\n"))
		}
		at += i + 1
	}
}
