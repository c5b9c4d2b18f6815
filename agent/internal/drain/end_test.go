package drain

import "testing"

// How the process ends once all is decided.
func TestEnd(t *testing.T) {
	obey(t, map[string]rule{
		"kubelet's SIGTERM ends the process": {
			play: func(w *world) { w.signals = true; w.run(10*sec, nil); w.stop(); w.run(60*sec, nil) },
			want: []string{"12.450s  answer agent", "12.450s  verdict clean", "12.460s  SIGTERM", "12.460s  exit 0"},
		},
		"no SIGTERM after our answer: the process waits for it as long as for any proof of a stop": {
			play: func(w *world) { w.run(10*sec, nil); w.stop(); w.run(60*sec, nil) },
			want: []string{"12.450s  verdict clean", "17.450s  exit 0"},
		},
		"a hook that comes after the verdict is answered at once": {
			play: func(w *world) {
				w.run(10*sec, nil)
				w.stop()
				w.run(13*sec, nil)
				w.hook(app)
				w.run(60*sec, nil)
			},
			want: []string{"12.450s  verdict clean", "13.000s  hook app", "13.000s  answer app", "17.450s  exit 0"},
		},
		"the end of a job's app ends the process without a signal": {
			policy: func(p *Policy) { p.ExitWith = Set(0).With(app) },
			play:   func(w *world) { jobEnds(w) },
			want:   []string{"10.000s  serving -> finished", "10.000s  do quit_proxy", "10.000s  verdict clean", "10.000s  exit 0"},
		},
		"the verdict waits a second for an Envoy that does not take the quit": {
			policy: func(p *Policy) { p.ExitWith = Set(0).With(app) },
			play:   func(w *world) { w.actHangs = Quit; jobEnds(w) },
			want:   []string{"10.000s  do quit_proxy", "11.000s  verdict clean", "11.000s  exit 0"},
		},
		"the agent's restart alone does not make Envoy quit, in a job neither": {
			policy: func(p *Policy) { p.ExitWith = Set(0).With(app) },
			play:   func(w *world) { w.run(10*sec, nil); w.sigterm(); w.run(20*sec, nil) },
			want:   []string{"11.400s  confirming -> finished", "verdict container_restart", "exit 0", "!do "},
		},
	})
}

// jobEnds lets the app end by itself: it was seen up, and is seen gone twice.
func jobEnds(w *world) {
	w.run(9900*ms, nil)
	w.poll()
	w.live[app] = Gone
	w.run(9950*ms, nil)
	w.poll()
	w.run(10*sec, nil)
	w.poll()
	w.run(30*sec, nil)
}
