package drain

import "testing"

// In observe mode nothing is done to anybody: the stop goes as it would without us, and is judged all the same.
func TestRulesInObserveMode(t *testing.T) {
	obey(t, map[string]rule{
		"hooks are answered as the sleeps did and what would have been done is said": {
			policy: func(p *Policy) { p.Observe, p.Containers[app].Sleep = true, 5*sec },
			play: func(w *world) {
				w.app, w.proxy = Known(1), Known(1)
				w.endsAfter[app] = 3 * sec
				w.run(10*sec, nil)
				w.stop()
				w.run(18*sec, nil)
				w.app, w.proxy = Known(0), Known(0)
				w.run(60*sec, nil)
			},
			want: []string{"10.000s  answer proxy", "15.000s  answer app", "would answer app", "answer agent", "verdict clean", "!do "},
		},
		"a container restart sleeps as it did": {
			policy: func(p *Policy) { p.Observe, p.Containers[app].Sleep = true, 5*sec },
			play:   func(w *world) { w.run(10*sec, nil); w.hook(app); w.run(30*sec, nil) },
			want:   []string{"confirming -> holding", "15.000s  answer app", "holding -> serving", "verdict container_restart", "!would"},
		},
		"whom kubelet must kill is no clean end": {
			policy: func(p *Policy) { p.Observe = true },
			play: func(w *world) {
				w.endsAfter[app] = -1
				w.run(10*sec, nil)
				w.stop()
				w.run(25*sec, nil)
				w.sigterm()
				w.run(60*sec, nil)
			},
			want: []string{"would answer app", "SIGTERM", "verdict deadline", "exit 2"},
		},
		"who outlives the whole grace period is named": {
			policy: func(p *Policy) { p.Observe = true },
			play: func(w *world) {
				w.signals = true
				w.endsAfter[app] = -1
				w.run(10*sec, nil)
				w.stop()
				w.run(39*sec, nil)
				w.live[app] = Gone // kubelet kills it
				w.run(90*sec, nil)
				if w.s.Alive.Who != app {
					w.note("the app is unnamed")
				}
			},
			want: []string{"answer app", "verdict deadline", "!clean", "!unnamed"},
		},
		"nor is it where kubelet told the agent at the very beginning": {
			policy: func(p *Policy) { p.Observe = true },
			play: func(w *world) {
				w.endsAfter[app] = -1
				w.run(10*sec, nil)
				w.sigterm()
				w.hook(app)
				w.hook(proxy)
				w.run(90*sec, nil)
			},
			want: []string{"answer app", "verdict deadline", "!clean"},
		},
		"arrivals after the app was let go are counted": {
			policy: func(p *Policy) { p.Observe = true },
			play: func(w *world) {
				w.endsAfter[proxy] = 4 * sec
				w.run(10*sec, nil)
				w.stop()
				w.onPoll = func(w *world) { w.rqs, w.newConns = Known(int64(w.now/sec)), Known(int64(w.now/sec)) }
				w.run(60*sec, nil)
				if w.s.Requests.Late < 3 {
					w.note("too few late arrivals: %d", w.s.Requests.Late)
				}
			},
			want: []string{"10.000s  answer app", "verdict", "!too few"},
		},
	})
}
