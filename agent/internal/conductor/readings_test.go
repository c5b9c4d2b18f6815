package conductor

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// A source that hangs stops neither the loop nor the other readings, and is unknown: it holds the drain until the deadline.
func TestHungSourceIsUnknownAndStopsNothing(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.readApp = func(ctx context.Context) {
			if p.now() > 5*time.Second {
				<-ctx.Done()
			}
		}
		p.stopped()
		p.pass(10 * time.Second)
		st := p.c.Status()
		if st.Phase != "draining" || st.App.Known || !st.Proxy.Known || *st.Proxy.AgeMS > 400 {
			t.Errorf("phase %s, app known %v, proxy %+v", st.Phase, st.App.Known, st.Proxy)
		}
		n := 0
		p.set(func() { n = len(p.appReads) })
		if n < 4 || n > 12 {
			t.Errorf("a source that hangs was asked %d times in 15 s", n)
		}
		if code := p.code(); code != 2 {
			t.Errorf("exit code %d, want 2", code)
		}
		v := p.verdict()
		if v.Outcome != "deadline" || v.HeldLongest != "app unreadable" || sumOfPhases(v) != v.TotalMS {
			t.Errorf("verdict %+v", v)
		}
		p.sayOnce("fake:app cannot be read")
	})
}

// A source that hung once is asked again soon, not after twenty times its second.
func TestSourceThatHungOnceIsAskedAgainSoon(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		hung := false
		p.readApp = func(ctx context.Context) {
			if p.now() > 5*time.Second && !hung {
				hung = true
				<-ctx.Done()
			}
		}
		p.stopped()
		p.code()
		if v := p.verdict(); v.Outcome != "clean" || v.TotalMS > 4000 {
			t.Errorf("verdict %s after %d ms", v.Outcome, v.TotalMS)
		}
	})
}

// An Envoy that stood still for long, and was cheap to ask before, is asked again in time.
func TestEnvoyThatStoodStillIsAskedAgainInTime(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.proxyLook.InFlight, p.inApp = drain.Known(1), drain.Known(1)
		p.readProxy = func(ctx context.Context) {
			<-time.After(time.Millisecond)
			if p.now() > 9*time.Second && p.now() < 20*time.Second {
				<-ctx.Done()
			}
		}
		p.stopped()
		p.pass(5 * time.Second)
		p.set(func() { p.proxyLook.InFlight, p.inApp = drain.Known(0), drain.Known(0) })
		p.code()
		if v := p.verdict(); v.Outcome != "clean" {
			t.Errorf("verdict %s after %d ms\n%s", v.Outcome, v.TotalMS, p.story())
		}
	})
}

// An answer that takes longer than half a second speaks for longer than that: the next one takes as long.
func TestSlowAnswerIsNotStaleWhenItComes(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.proxyLook.Spared = 600 * time.Millisecond
		p.readProxy = func(context.Context) { <-time.After(600 * time.Millisecond) }
		p.stopped()
		p.code()
		if v := p.verdict(); v.Outcome != "clean" || v.TotalMS > 5000 {
			t.Errorf("verdict %s after %d ms\n%s", v.Outcome, v.TotalMS, p.story())
		}
	})
}

func TestSlowSourceIsAskedAtTwentyTimesItsLatency(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.proxyLook.InFlight, p.inApp = drain.Known(1), drain.Known(1)
		p.readApp = func(context.Context) { <-time.After(50 * time.Millisecond) }
		p.readProxy = func(context.Context) { <-time.After(10 * time.Millisecond) }
		p.stopped()
		p.pass(10 * time.Second)
		p.mu.Lock()
		defer p.mu.Unlock()
		wantEvery(t, "app", p.appReads, time.Second)
		wantEvery(t, "proxy", p.proxyReads, 200*time.Millisecond)
	})
}

func wantEvery(t *testing.T, who string, at []time.Duration, every time.Duration) {
	t.Helper()
	at = slices.DeleteFunc(slices.Clone(at), func(d time.Duration) bool { return d <= 5*time.Second }) // before the drain
	if len(at) < 5 {
		t.Fatalf("%s was read %d times", who, len(at))
	}
	for i := range len(at) - 1 {
		if gap := at[i+1] - at[i]; gap != every {
			t.Fatalf("%s was read again after %v, want %v", who, gap, every)
		}
	}
}

// Nothing is read fast while serving; what is not there yet is tried again, ever more rarely.
func TestServingReadsRarely(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		ready := p.proxyLook
		p.proxyLook, p.appErr = ProxyLook{Failure: refused}, errors.New("not there")
		p.start()
		p.pass(300 * time.Millisecond)
		p.set(func() { p.proxyLook = ready })
		p.pass(500 * time.Millisecond)
		if !p.said("envoy envoy-1") {
			t.Error("an envoy that came a little later was not described soon")
		}
		p.pass(10 * time.Minute)
		p.set(func() { p.appErr = nil })
		for who, reads := range map[string][]time.Duration{"app": p.appReads, "proxy": p.proxyReads, "watch": p.looks} {
			if n := len(reads); n < 20 || n > 80 {
				t.Errorf("%s was read %d times in ten idle minutes", who, n)
			}
		}
		p.stopAll()
		p.code()
	})
}

// What is stale is unknown in the timeline, however it looked when it was read.
func TestStaleReadingIsNull(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.start()
		p.pass(100 * time.Second) // the last idle look is long ago
		if st := p.c.Status(); st.App.Known || st.Proxy.Known || *st.App.AgeMS < 1000 {
			t.Errorf("status says %+v and %+v", st.App, st.Proxy)
		}
		p.stopAll()
		p.code()
		for _, l := range p.lines {
			if e := l.Event; e != nil && e.Action == "hold app" && (e.ProxyInFlight != nil || e.AppInFlight != nil || e.ProxyRung != "" || e.AppSource != "") {
				t.Errorf("event at T0 shows %s by %q and %s by %q", shown(e.ProxyInFlight), e.ProxyRung, shown(e.AppInFlight), e.AppSource)
			}
			if e := l.Event; e != nil && e.Action == "answer app" && (shown(e.ProxyInFlight) != "0" || e.AppSource != "fake:app") {
				t.Errorf("event at the first answer: proxy %s, app source %q", shown(e.ProxyInFlight), e.AppSource)
			}
		}
	})
}

func TestStatusInEachPhase(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.inApp = drain.Known(2)
		p.start()
		p.pass(time.Second)
		if st := p.c.Status(); st.Phase != "serving" || st.T0 != nil || st.LeftMS != nil || len(st.Hooks) != 0 || st.Trigger != "" {
			t.Errorf("serving: %+v", st)
		}
		p.hook("app")
		p.pass(100 * time.Millisecond)
		st := p.c.Status()
		if st.Phase != "confirming" || st.SinceMS != 100 || *st.LeftMS != 27_900 || *st.DeadlineMS != 28_000 || st.Trigger != "hook app" {
			t.Errorf("confirming: %+v", st)
		}
		if len(st.Hooks) != 1 || st.Hooks[0] != (HookStatus{Container: "app", HeldMS: 100}) {
			t.Errorf("hooks %+v", st.Hooks)
		}
		p.stopAll()
		p.until("draining", p.inPhase(drain.Draining))
		p.pass(3 * time.Second)
		st = p.c.Status()
		if *st.App.InFlight != 2 || !st.App.Known || st.App.Rung != "fake:app" || st.Waiting != "app in flight" || *st.Proxy.InFlight != 0 || st.Proxy.Rung != "clusters" {
			t.Errorf("draining: %+v", st)
		}
		p.set(func() { p.inApp = drain.Known(0) })
		p.until("stopping", p.inPhase(drain.Stopping))
		if st = p.c.Status(); !st.Hooks[0].Answered || st.Hooks[1].Answered || st.Verdict != nil {
			t.Errorf("stopping: %+v", st)
		}
		p.code()
		if st = p.c.Status(); st.Phase != "finished" || st.Verdict == nil || len(st.Events) == 0 {
			t.Errorf("finished: %+v", st)
		}
		if ready, phase := p.c.Ready(); !ready || phase != "finished" {
			t.Errorf("ready %v in %s: readiness is left alone by default", ready, phase)
		}
		synctest.Wait()
	})
}

// A container that cannot be watched is said once, with what the watch says can be done.
func TestWatchThatFailsIsSaid(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.cfg.World.Watches[0].Look = func(context.Context) (drain.Liveness, error) { return drain.Unseen, errors.New("say --watch") }
		p.inApp = drain.Known(1)
		p.stopped()
		p.pass(10 * time.Second)
		if n := strings.Count(p.story(), "watch of app cannot be read: say --watch"); n != 1 {
			t.Errorf("said %d times, want once\n%s", n, p.story())
		}
		p.set(func() { p.inApp = drain.Known(0) })
		p.code()
	})
}

// What changes by itself says so, and is read at once, however rarely it is asked otherwise.
func TestASourceThatSaysItChangedIsReadAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.appChanged = make(chan struct{}, 1)
		p.cfg.World.Apps[0].Changed = p.appChanged
		p.inApp = drain.Known(1)
		p.readApp = func(context.Context) { <-time.After(50 * time.Millisecond) } // so it is asked once a second
		p.stopped()
		p.pass(5300 * time.Millisecond)
		n := 0
		p.set(func() { n, p.inApp = len(p.appReads), drain.Known(0) })
		p.appChanged <- struct{}{}
		p.pass(60 * time.Millisecond)
		if st := p.c.Status(); st.App.InFlight == nil || *st.App.InFlight != 0 {
			t.Errorf("after its word: %d readings more, app %+v", len(p.appReads)-n, st.App)
		}
	})
}

// While one source has something in flight the others can let nobody go: they are read rarely, until it says zero.
func TestOnlyWhatHoldsTheDrainIsReadOften(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.proxyLook.InFlight, p.inApp = drain.Known(1), drain.Known(1)
		p.stopped()
		count := func() (proxy, app, watch int) {
			p.set(func() { p.proxyReads, p.appReads, p.looks = nil, nil, nil })
			p.pass(3 * time.Second)
			p.set(func() { proxy, app, watch = len(p.proxyReads), len(p.appReads), len(p.looks) })
			return proxy, app, watch
		}
		p.pass(3 * time.Second)
		if proxy, app, watch := count(); proxy != 40 || app != 3 || watch != 10 {
			t.Errorf("in 3 s the proxy was read %d times, the app %d, watched %d; want 40, 3 and 10", proxy, app, watch)
		}
		p.set(func() { p.proxyLook.InFlight = drain.Known(0) })
		if proxy, app, _ := count(); proxy > 13 || app < 38 || app > 60 {
			t.Errorf("in the 3 s after the proxy's zero it was read %d times, the app %d; want 10 and 40", proxy, app)
		}
		zero := p.now()
		p.set(func() { p.inApp = drain.Known(0) })
		p.until("stopping", p.inPhase(drain.Stopping))
		if took := p.now() - zero; took > p.cfg.Policy.Settle+100*time.Millisecond {
			t.Errorf("let go %v after the last zero", took)
		}
		p.code()
	})
}

// A page of an app may take up to five seconds. Where it says zero, a stop ends with it, whatever the page costs; what takes longer
// is unknown.
func TestSlowPages(t *testing.T) {
	for takes, want := range map[time.Duration]string{
		900 * time.Millisecond: "clean", 1500 * time.Millisecond: "clean", 4900 * time.Millisecond: "clean", 5100 * time.Millisecond: "deadline",
	} {
		bubble(t, func(t *testing.T, p *pod) {
			p.readApp = func(ctx context.Context) {
				select {
				case <-ctx.Done():
				case <-time.After(takes):
				}
			}
			p.start()
			p.pass(time.Minute)
			p.stopAll()
			p.code()
			if v := p.verdict(); v.Outcome != want {
				t.Errorf("a page that takes %v: %s after %d ms\n%s", takes, v.Outcome, v.TotalMS, p.story())
			}
		})
	}
}

// A page that is slow while something is in flight is asked again soon enough to see that end: an app that stood still for once says
// little about what its page costs, and one whose page always takes seconds is still asked a few times in each stop.
func TestSlowPagesOfABusyApp(t *testing.T) {
	for name, slow := range map[string]func(since time.Duration) time.Duration{
		"paused for 3 s, never read before": func(since time.Duration) time.Duration { return max(0, 3*time.Second-since) },
		"always 800 ms":                     func(time.Duration) time.Duration { return 800 * time.Millisecond },
		"always 2 s":                        func(time.Duration) time.Duration { return 2 * time.Second },
	} {
		bubble(t, func(t *testing.T, p *pod) {
			paused := strings.HasPrefix(name, "paused")
			var stopped atomic.Int64 // when
			p.inApp = drain.Known(1)
			p.readApp = func(ctx context.Context) {
				at := time.Duration(stopped.Load())
				wait := time.Minute // paused: not read before the stop
				if at != 0 || !paused {
					wait = slow(p.now() - at)
				}
				select {
				case <-ctx.Done():
				case <-time.After(wait):
				}
			}
			p.start()
			p.pass(time.Minute)
			stopped.Store(int64(p.now()))
			p.stopAll()
			p.pass(5 * time.Second)
			p.set(func() { p.inApp = drain.Known(0) })
			zero := p.now()
			p.until("the app is let go", func() bool { return p.said("answer app") })
			if took := p.now() - zero; took > 10*time.Second {
				t.Errorf("%s: let go %v after its last zero", name, took)
			}
			p.code()
		})
	}
}

// An Envoy that nobody could read, from the beginning of a stop on or ever, is seen to die all the same.
func TestEnvoyThatNobodyReadIsSeenToDie(t *testing.T) {
	for name, before := range map[string]ProxyLook{
		"never": {Failure: "timeout", Live: drain.Up}, "since the stop began": {InFlight: drain.Known(1), Live: drain.Up},
	} {
		bubble(t, func(t *testing.T, p *pod) {
			p.inApp, p.proxyLook = drain.Known(1), before
			p.start()
			p.pass(5 * time.Second)
			p.set(func() { p.proxyLook = ProxyLook{Failure: "timeout", Live: drain.Up} })
			p.stopAll()
			p.pass(5 * time.Second)
			p.set(func() { p.proxyLook = ProxyLook{Failure: refused, Live: drain.Gone} })
			died := p.now()
			p.until("the app is let go", func() bool { return p.said("answer app") })
			if took := p.now() - died; took > time.Second {
				t.Errorf("%s read: the app was held for %v after the proxy's death", name, took)
			}
			if code := p.code(); code != 4 {
				t.Errorf("%s read: exit code %d, want 4", name, code)
			}
		})
	}
}
