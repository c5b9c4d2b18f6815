package drain

import "testing"

// owned is an Envoy whose owner has a drain of its own.
func owned(w *world) {
	w.send(Input{Kind: Described, Facts: ProxyFacts{Known: true, Directed: true, Handover: true, Uptime: 3600 * sec}})
}

// The owner of the Envoy is told to drain before it is told to stop.
func TestHandOver(t *testing.T) {
	obey(t, map[string]rule{
		"after SIGTERM it comes with the drain": {
			policy: func(p *Policy) { p.Hooks = 0b011 },
			play:   func(w *world) { owned(w); w.run(10*sec, nil); w.sigterm(); w.stop(); w.run(60*sec, nil) },
			want:   []string{"do drain_listeners+handover", "settling -> stopping", "answer app", "answer proxy", "verdict clean"},
		},
		"without a proof it waits until the app, let go, is gone": {
			play: func(w *world) { owned(w); w.run(10*sec, nil); w.stop(); w.run(60*sec, nil) },
			want: []string{"do healthcheck_fail", "answer app", "do handover", "answer proxy", "verdict clean", "!drain_listeners"},
		},
		"an app that leaves is proof enough": {
			play: func(w *world) {
				owned(w)
				w.endsAfter[app] = -1
				w.run(10*sec, nil)
				w.stop()
				w.run(60*sec, func() bool { return w.s.Phase == Stopping })
				w.live[app] = Leaving
				w.run(60*sec, nil)
			},
			want: []string{"answer app", "do handover", "answer proxy", "verdict deadline"},
		},
		"nothing proves a stop: the owner is left alone": {
			play: func(w *world) {
				owned(w)
				w.endsAfter[app], w.endsAfter[proxy], w.endsAfter[agent] = -1, -1, -1
				w.run(10*sec, nil)
				w.stop()
				w.run(60*sec, nil)
			},
			want: []string{"answer app", "answer proxy", "verdict aborted", "!handover"},
		},
		"an owner that does not answer costs half a second": {
			play: func(w *world) {
				owned(w)
				w.actHangs = HandOver
				w.run(10*sec, nil)
				w.stop()
				w.run(60*sec, nil)
			},
			want: []string{"11.700s  answer app", "12.100s  do handover", "12.600s  answer proxy", "verdict clean"},
		},
		"an owner that refuses costs nothing": {
			play: func(w *world) {
				owned(w)
				w.actFails = HandOver
				w.run(10*sec, nil)
				w.stop()
				w.run(60*sec, nil)
			},
			want: []string{"12.100s  do handover", "12.100s  answer proxy", "verdict clean"},
		},
		"an owner that refuses keeps nothing else from being done": {
			policy: func(p *Policy) { p.Hooks, p.QuitProxy = 0b011, true },
			play: func(w *world) {
				owned(w)
				w.actFails = HandOver
				w.run(10*sec, nil)
				w.sigterm()
				w.stop()
				w.run(60*sec, nil)
			},
			want: []string{"do drain_listeners+handover", "answer proxy", "do quit_proxy", "verdict clean"},
		},
		"when the grace is over nobody waits for the owner": {
			play: func(w *world) {
				owned(w)
				w.app, w.actHangs = Known(1), HandOver
				w.run(10*sec, nil)
				w.stop()
				w.run(14*sec, nil)
				w.sigterm()
				w.run(60*sec, nil)
			},
			want: []string{"14.000s  answer app", "14.000s  answer proxy", "verdict deadline"},
		},
		"a proxy that outlives us is handed over too": {
			policy: func(p *Policy) { p.Containers[1].Outlives = true },
			play:   func(w *world) { owned(w); w.run(10*sec, nil); w.stop(); w.run(60*sec, nil) },
			want:   []string{"answer app", "do handover", "answer proxy", "answer agent", "verdict clean"},
		},
		"a proxy that outlives us is held for its owner too": {
			policy: func(p *Policy) { p.Containers[1].Outlives = true },
			play: func(w *world) {
				owned(w)
				w.actHangs = HandOver
				w.run(10*sec, nil)
				w.stop()
				w.run(60*sec, nil)
			},
			want: []string{"12.100s  do handover", "12.600s  answer proxy", "12.600s  answer agent"},
		},
		"an owner without a drain is not called": {
			play: func(w *world) { w.run(10*sec, nil); w.stop(); w.run(60*sec, nil) },
			want: []string{"answer proxy", "verdict clean", "!handover"},
		},
		"observe mode leaves the owner alone": {
			policy: func(p *Policy) { p.Observe = true },
			play:   func(w *world) { owned(w); w.run(10*sec, nil); w.stop(); w.run(60*sec, nil) },
			want:   []string{"answer proxy", "!handover"},
		},
	})
}
