package drain

import (
	"testing"
	"time"
)

// An app that ends at a settled zero, with its proxy, is not blamed before the proxy was looked at again either.
func TestBlameAtASettledZero(t *testing.T) {
	ends := func(then Liveness) func(*world) {
		return func(w *world) {
			w.run(10*sec, nil)
			w.stop()
			w.run(11580*ms, nil)
			w.live[app], w.live[proxy] = Gone, Unseen
			w.run(11740*ms, nil)
			w.live[proxy] = then
			w.run(60*sec, nil)
		}
	}
	obey(t, map[string]rule{
		"the proxy had ended":          {play: ends(Gone), want: []string{"draining -> settling", "settling -> stopping: proxy died", "verdict proxy_died", "!app_died"}},
		"the proxy is there":           {play: ends(Up), want: []string{"settling -> stopping: app died", "verdict app_died"}},
		"nobody can see it any longer": {play: ends(Unseen), want: []string{"12.100s  settling -> stopping: app died", "verdict app_died"}},
	})
}

// A look at the proxy that began before the app's end says nothing of later, however late its answer comes.
func TestBlameAwaitsALookThatBeganLater(t *testing.T) {
	answered := func(began time.Duration) func(*world) {
		return func(w *world) {
			w.run(10*sec, nil)
			w.stop()
			w.run(10200*ms, nil)
			w.live[app], w.live[proxy] = Gone, Unseen
			w.run(w.now+5*sec, func() bool { return w.s.Hooks[app].Live == Gone })
			w.run(w.now+10*ms, nil)
			w.send(Input{Kind: Seen, Container: proxy, Live: Up, Looked: w.now + began})
			w.run(w.now+200*ms, nil)
			w.live[proxy] = Gone
			w.run(60*sec, nil)
		}
	}
	obey(t, map[string]rule{
		"before": {play: answered(-20 * ms), want: []string{"-> stopping: proxy died", "verdict proxy_died", "!app_died"}},
		"after":  {play: answered(0), want: []string{"announcing -> stopping: app died", "verdict app_died"}},
	})
}

// An app that is seen gone is a reason to look at the proxy now, however rarely that is read; once for each such end.
func TestEndIsAReasonToLook(t *testing.T) {
	w := newWorld(Defaults())
	w.run(10*sec, nil)
	w.stop()
	w.run(11*sec, nil)
	looks := func(live Liveness, after time.Duration) bool {
		w.now += after
		s, d := Step(&w.p, w.s, Input{Kind: Seen, Container: app, Live: live, At: w.now})
		w.s = s
		return d.Sample
	}
	for i, see := range []struct {
		live  Liveness
		after time.Duration
		want  bool
	}{{Up, ms, false}, {Gone, ms, true}, {Gone, 10 * ms, false}, {Up, ms, false}, {Gone, ms, true}} {
		if got := looks(see.live, see.after); got != see.want {
			t.Errorf("look %d at the app, which is %d: all are looked at: %v, want %v", i+1, see.live, got, see.want)
		}
	}
}

// An app that ended after the agent's own hook had come is not held when its own comes, and SIGTERM with it.
func TestHookOfTheDeadWithSigterm(t *testing.T) {
	obey(t, map[string]rule{"": {
		play: func(w *world) {
			w.run(5*sec, nil)
			w.hook(agent)
			w.live[app] = Gone
			w.run(6200*ms, nil)
			w.hook(app)
			w.sigterm()
			w.run(60*sec, nil)
		},
		want: []string{"6.200s  confirming -> announcing", "6.200s  answer app", "verdict"},
	}})
}
