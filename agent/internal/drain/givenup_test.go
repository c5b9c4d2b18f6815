package drain

import (
	"testing"
	"time"
)

// calledAgain plays a stop in which strangers call the app's hook again after its answer, while another request is in flight to it.
func calledAgain(w *world, times int) {
	w.run(10*sec, nil)
	w.stop()
	w.run(60*sec, func() bool { return w.answered[app] != 0 })
	for range times {
		w.run(w.now+30*ms, nil)
		w.hook(app)
	}
	w.app, w.proxy = Known(1), Known(1)
	w.onPoll = func(w *world) {
		if w.live[app] == Gone {
			w.proxy = Known(0)
		}
	}
	w.run(60*sec, nil)
}

// forged plays a stop of strangers that ends at drain-max, of which one hook is called again, which becomes a container restart; and a
// true stop later, with nothing in flight.
func forged(w *world, later time.Duration) {
	w.endsAfter = [MaxContainers]time.Duration{-1, -1, -1}
	w.app, w.proxy = Known(1), Known(1)
	w.run(10*sec, nil)
	w.hook(app)
	w.hook(proxy)
	w.run(60*sec, func() bool { return w.s.Phase == Finished })
	w.run(w.now+30*time.Millisecond, nil)
	w.hook(app)
	w.app, w.proxy = Known(0), Known(0)
	w.run(later, nil)
	w.signals, w.endsAfter = true, [MaxContainers]time.Duration{sec, sec, sec}
	w.stop()
	w.run(later+100*sec, nil)
}

// A stop that is given up does not take back what was done in it: who was let go was let go, who was told to drain was told.
func TestGivenUp(t *testing.T) {
	obey(t, map[string]rule{
		"who ends after an answer did not die, although a stranger called its hook again": {
			play: func(w *world) { calledAgain(w, 1) },
			want: []string{"answer app", "verdict aborted", "answer app", "answer proxy", "verdict clean", "!died"},
		},
		"what ended at its deadline is not clean because a stranger called a hook again": {
			policy: func(p *Policy) { p.DrainMax = 3 * sec },
			play:   func(w *world) { w.signals = true; w.app, w.proxy = Known(1), Known(1); calledAgain(w, 1) },
			want:   []string{"drain-max of 3s is over", "answer app", "verdict aborted", "verdict deadline", "!clean"},
		},
		"nor because two did, and what an operator finished neither": {
			play: func(w *world) {
				w.signals = true
				w.app, w.proxy = Known(1), Known(1)
				w.run(10*sec, nil)
				w.stop()
				w.run(12*sec, nil)
				w.send(Input{Kind: AskedFinish})
				for range 2 {
					w.run(w.now+30*time.Millisecond, nil)
					w.hook(app)
				}
				w.app, w.proxy = Known(0), Known(0)
				w.run(60*sec, nil)
			},
			want: []string{"answer app", "verdict aborted", "verdict finished_by_operator", "!clean"},
		},
		"a stop that strangers began, and that nobody proved, leaves nothing behind": {
			policy: func(p *Policy) { p.DrainMax = 3 * sec },
			play: func(w *world) {
				w.endsAfter = [MaxContainers]time.Duration{-1, -1, -1}
				w.app, w.proxy = Known(1), Known(1)
				w.run(10*sec, nil)
				w.hook(app)
				w.hook(proxy)
				w.run(60*sec, func() bool { return w.answered[app] != 0 })
				w.run(w.now+30*time.Millisecond, nil)
				w.hook(app)
				w.app, w.proxy = Known(0), Known(0)
				w.run(120*sec, nil)
				w.signals, w.endsAfter = true, [MaxContainers]time.Duration{sec, sec, sec}
				w.stop()
				w.run(180*sec, nil)
			},
			want: []string{"verdict aborted", "verdict aborted", "verdict clean", "!deadline"},
		},
		"nor where a container restart lies between, and the next stop comes when the pod would be dead": {
			policy: func(p *Policy) { p.DrainMax = 3 * sec },
			play:   func(w *world) { forged(w, 600*sec) },
			want:   []string{"verdict aborted", "verdict container_restart", "verdict clean", "!verdict deadline"},
		},
		"while it could be alive, what began before may have been the stop": {
			policy: func(p *Policy) { p.DrainMax = 3 * sec },
			play:   func(w *world) { forged(w, 30*sec) },
			want:   []string{"verdict aborted", "verdict container_restart", "verdict deadline"},
		},
		"who is told to stop only after the containers of the next stage, as a sidecar is, did not die either": {
			policy: func(p *Policy) { p.Containers[app].Stage, p.Containers[proxy].Stage = 1, 0 },
			play: func(w *world) {
				w.signals, w.endsAfter[proxy], w.endsAfter[app] = true, 2150*ms, 140*ms
				w.run(10*sec, nil)
				w.stop()
				w.run(11*sec, nil)
				w.send(Input{Kind: AskedFinish})
				w.run(w.now+2155*ms, nil)
				w.hook(proxy)
				w.run(60*sec, nil)
			},
			want: []string{"answer proxy", "answer app", "verdict aborted", "verdict finished_by_operator", "!died"},
		},
		"nor who finishes what it has for longer than its share": {
			play: func(w *world) {
				w.signals, w.endsAfter[app], w.endsAfter[proxy] = true, 8*sec, 8100*ms
				w.app, w.proxy = Known(1), Known(1)
				w.run(10*sec, nil)
				w.stop()
				w.run(11*sec, nil)
				w.send(Input{Kind: AskedFinish})
				w.run(w.now+30*ms, nil)
				w.hook(app)
				w.run(19*sec, nil)
				w.app, w.proxy = Count{}, Known(0)
				w.run(60*sec, nil)
			},
			want: []string{"answer app", "verdict aborted", "verdict finished_by_operator", "!died"},
		},
		"our own SIGTERM, after a stop that was taken back, leaves what is left of the grace period since our own hook came": {
			policy: func(p *Policy) {
				p.Containers[app].Stage, p.Containers[proxy].Stage, p.Containers[proxy].Outlives = 1, 0, true
			},
			play: func(w *world) {
				w.signals, w.endsAfter[proxy] = true, -1
				w.app, w.proxy = Known(1), Known(1)
				w.run(10*sec, nil)
				w.stop()
				w.run(60*sec, func() bool { return w.answered[proxy] != 0 })
				for range 2 {
					w.run(w.now+ms, nil)
					w.hook(proxy)
				}
				w.run(10*sec+w.p.Grace, nil)
			},
			want: []string{"answer proxy", "verdict aborted", "verdict aborted", "SIGTERM", "verdict deadline"},
		},
		"nor who had closed its port on the drain URL when it was let go, and lived on": {
			policy: appDrains,
			play: func(w *world) {
				w.app, w.proxy, w.signals = Known(1), Known(1), true
				w.run(10*sec, nil)
				w.stop()
				w.run(11*sec, nil)
				w.live[app] = Gone // so it seems
				w.run(11500*ms, nil)
				w.send(Input{Kind: AskedFinish})
				w.run(w.now+30*ms, nil)
				w.hook(app)
				w.app, w.proxy = Count{}, Known(0)
				w.run(60*sec, nil)
			},
			want: []string{"answer app", "verdict aborted", "verdict finished_by_operator", "!died"},
		},
		"nor where it is called again twice": {
			play: func(w *world) { calledAgain(w, 2) },
			want: []string{"verdict aborted", "answer app", "answer proxy", "verdict clean", "!died"},
		},
		"the hook of an app that died is answered again, and begins nothing anew": {
			policy: appDrains,
			play: func(w *world) {
				w.app, w.signals = Known(2), true
				w.run(10*sec, nil)
				w.stop()
				w.run(12*sec, nil)
				w.live[app], w.app = Gone, Count{}
				w.run(60*sec, func() bool { return w.answered[app] != 0 })
				w.run(w.now+10*ms, nil)
				w.hook(app)
				w.run(60*sec, nil)
			},
			want: []string{"app died", "answer app", "hook app", "answer app", "verdict app_died", "!aborted"},
		},
		"who ends long after it died": {
			play: func(w *world) {
				w.endsAfter[app], w.endsAfter[proxy] = -1, -1
				w.run(10*sec, nil)
				w.hook(app)
				w.hook(proxy)
				w.run(60*sec, nil)
				w.app, w.proxy = Known(1), Known(1)
				w.stop()
				w.run(62*sec, nil)
				w.live[app], w.app = Gone, Count{}
				w.run(90*sec, nil)
			},
			want: []string{"verdict aborted", "-> stopping: app died", "verdict app_died"},
		},
		"a port that was closed on the drain URL is no death after it": {
			policy: func(p *Policy) {
				p.AppDrain, p.Containers[app].Stage, p.Containers[proxy].Stage = true, 1, 0
			},
			play: func(w *world) {
				w.endsAfter[proxy] = sec
				w.run(10*sec, nil)
				w.stop()
				w.run(11*sec, nil)
				w.live[app] = Gone
				w.run(60*sec, func() bool { return w.answered[proxy] != 0 })
				w.run(w.now+50*ms, nil)
				w.hook(proxy)
				w.run(60*sec, nil)
			},
			want: []string{"answer proxy", "verdict aborted", "answer proxy", "answer app", "verdict clean", "!died"},
		},
		"nor does it prove the next stop": {
			policy: appDrains,
			play: func(w *world) {
				w.endsAfter[app], w.endsAfter[proxy], w.endsAfter[agent] = -1, -1, -1
				w.run(10*sec, nil)
				w.hook(app)
				w.hook(proxy)
				w.run(11*sec, nil)
				w.live[app] = Gone
				w.run(60*sec, nil)
				w.hook(app)
				w.hook(proxy)
				w.run(120*sec, nil)
			},
			want: []string{"verdict aborted", "answer proxy", "verdict aborted", "!died", "!clean"},
		},
		"who serves again can die": {
			policy: appDrains,
			play: func(w *world) {
				w.endsAfter[app], w.endsAfter[proxy], w.endsAfter[agent] = -1, -1, -1
				w.run(10*sec, nil)
				w.hook(app)
				w.hook(proxy)
				w.run(60*sec, nil)
				w.poll()
				w.stop()
				w.run(60100*ms, nil)
				w.live[app], w.app = Gone, Count{}
				w.run(90*sec, nil)
			},
			want: []string{"verdict aborted", "-> stopping: app died", "verdict app_died"},
		},
	})
}
