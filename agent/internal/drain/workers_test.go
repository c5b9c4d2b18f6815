package drain

import "testing"

// Workers are told by SIGTERM alone, and their end is what the rest waits for.
func TestWorkers(t *testing.T) {
	worker := func(p *Policy) {
		p.Containers = append(p.Containers, Container{Name: "worker", Stop: 5 * sec, Worker: true})
		p.Sources, p.Hooks = []ID{0, 3}, 0b1111
	}
	unwatched := func(p *Policy) {
		worker(p)
		p.Containers[3].Outlives = true
	}
	obey(t, map[string]rule{
		"its hook is answered as soon as the stop is sure, the proxy waits for its end": {
			policy: worker,
			play: func(w *world) {
				w.endsAfter[3] = 14 * sec
				w.run(10*sec, nil)
				w.stop()
				w.run(60*sec, nil)
			},
			want: []string{"11.000s  answer worker", "11.700s  answer app", "25.050s  answer proxy", "verdict clean"},
		},
		"a worker that the grace period does not leave time for is named": {
			policy: worker,
			play: func(w *world) {
				w.endsAfter[3] = -1
				w.run(10*sec, nil)
				w.stop()
				w.run(60*sec, nil)
			},
			want: []string{"11.000s  answer worker", "11.700s  answer app", "36.000s  answer proxy", "verdict deadline"},
		},
		"a worker that nobody sees is let go like any other, all hooks are answered, and SIGTERM says that it has ended": {
			policy: unwatched,
			play: func(w *world) {
				w.live[3] = Unseen
				w.run(10*sec, nil)
				w.stop()
				w.run(26*sec, nil)
				w.sigterm()
				w.run(60*sec, nil)
			},
			want: []string{"11.000s  answer worker", "answer app", "answer proxy", "answer agent", "SIGTERM", "26.000s  verdict clean", "exit 0"},
		},
		"a SIGTERM that comes when the grace period is over means that kubelet has killed it": {
			policy: unwatched,
			play: func(w *world) {
				w.live[3] = Unseen
				w.run(10*sec, nil)
				w.stop()
				w.run(40*sec, nil)
				w.sigterm()
				w.run(60*sec, nil)
			},
			want: []string{"answer agent", "SIGTERM", "40.000s  verdict deadline"},
		},
		"one that is proved by its token, and whose SIGTERM never comes, says that the end was not seen": {
			policy: unwatched,
			play: func(w *world) {
				w.live[3], w.endsAfter[3] = Unseen, -1
				w.run(10*sec, nil)
				w.send(Input{Kind: HookCalled, Container: app, Authentic: true})
				w.stop()
				w.run(80*sec, nil)
				w.note("%s", w.s.Alive.Text(&w.p))
			},
			want: []string{"answer agent", "45.000s  verdict deadline", "the end of worker was not seen within 34s of its answer", "!clean", "!aborted"},
		},
		"hooks that anybody called are taken back when SIGTERM never comes": {
			policy: unwatched,
			play: func(w *world) {
				w.live[3] = Unseen
				for i := range w.endsAfter {
					w.endsAfter[i] = -1
				}
				w.run(10*sec, nil)
				w.stop()
				w.run(80*sec, nil)
			},
			want: []string{"answer agent", "45.000s  finished -> serving", "verdict aborted"},
		},
		"a worker's restart is held like any other's": {
			policy: worker,
			play:   func(w *world) { w.run(10*sec, nil); w.app = Known(1); w.hook(3); w.run(20*sec, nil) },
			want:   []string{"12.000s  holding -> serving", "answer worker", "verdict container_restart"},
		},
	})
}
