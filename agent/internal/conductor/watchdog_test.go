package conductor

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/timeline"
)

type timelineLine = timeline.Line

// lineOnce calls do at the first event whose action and reason match.
func lineOnce(match func(string) bool, do func()) func(timeline.Line) {
	var once sync.Once
	return func(l timeline.Line) {
		if l.Event != nil && match(l.Event.Action+" "+l.Event.Reason) {
			once.Do(do)
		}
	}
}

// blind takes away everything that is read. A goroutine that waits for a lock stops a bubble's clock: where the loop hangs with the
// lock, nobody else may want it.
func (p *pod) blind() {
	p.cfg.World.Describe, p.cfg.World.Proxy, p.cfg.World.Apps, p.cfg.World.Watches = nil, nil, nil, nil
}

// hang stops the loop for ever within a sink, which holds the conductor's and the recorder's lock, until the test frees it.
func (p *pod) hang(at string) (free func()) {
	stuck := make(chan struct{})
	p.sink = lineOnce(func(s string) bool { return strings.HasPrefix(s, at) }, func() { <-stuck })
	return sync.OnceFunc(func() { close(stuck) })
}

func TestWatchdogAnswersEveryHookWhenTheLoopHangs(t *testing.T) {
	for _, moment := range []string{"hold app", "hold agent", " announced for", "answer app"} {
		t.Run(moment, func(t *testing.T) {
			bubble(t, func(t *testing.T, p *pod) {
				p.blind()
				free := p.hang(moment)
				p.start()
				var calls []<-chan Answer
				for _, name := range []string{"app", "proxy", "agent", "stranger"} {
					calls = append(calls, p.hook(name))
					synctest.Wait()
				}
				for i := range 300 { // more than the loop's inbox holds
					calls = append(calls, p.hook([]string{"app", "proxy"}[i%2]))
				}
				for _, call := range calls {
					if got := <-call; got.Held >= p.cfg.Policy.Grace {
						t.Fatalf("answered after %v, the grace period is %v", got.Held, p.cfg.Policy.Grace)
					}
				}
				free() // the recorder too waits for its lock, and that stops the clock
				if code := p.code(); code != 5 {
					t.Errorf("exit code %d, want 5", code)
				}
				if now := p.now(); now >= p.cfg.Policy.Grace {
					t.Errorf("Run returned after %v, the grace period is %v", now, p.cfg.Policy.Grace)
				}
				synctest.Wait()
				if v := p.verdict(); v.Outcome != "watchdog" || v.Level != "error" {
					t.Errorf("verdict %+v", v)
				}
				if want := []string{"watchdog 28500"}; !slices.Equal(p.metrics.outcomes, want) {
					t.Errorf("metrics %v, want %v", p.metrics.outcomes, want)
				}
			})
		})
	}
}

// The loop hangs but the recorder does not: the verdict is there when Run returns, so that main can flush it.
func TestWatchdogsVerdictStandsBeforeRunReturns(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.blind()
		stuck := make(chan struct{})
		p.metrics.onPhase = func() { <-stuck }
		written := false
		p.sink = func(l timelineLine) {
			if l.Verdict != nil {
				<-time.After(500 * time.Millisecond)
				written = true
			}
		}
		p.start()
		call := p.hook("app")
		if got := <-call; got.Outcome != "watchdog" {
			t.Errorf("answer %+v", got)
		}
		code := <-p.exit
		if v := p.verdict(); code != 5 || v.Outcome != "watchdog" || !written {
			t.Errorf("code %d, verdict %+v, written %v", code, v, written)
		}
		if got := <-p.hook("proxy"); got.Outcome != "watchdog" {
			t.Errorf("answer after the end: %+v", got)
		}
		close(stuck)
	})
}

func TestWatchdogEndsAnAgentThatHangsAfterSigterm(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.blind()
		free := p.hang(" SIGTERM")
		p.start()
		p.c.Terminate()
		<-p.c.ended
		free()
		if code := p.code(); code != 5 {
			t.Errorf("exit code %d, want 5", code)
		}
		synctest.Wait()
		if v := p.verdict(); v.Outcome != "watchdog" {
			t.Errorf("verdict %+v", v)
		}
	})
}

func TestWatchdogOfAJobEndsWithZero(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.blind()
		p.cfg.Policy.ExitWith = drain.Set(0).With(app)
		free := p.hang("hold app")
		p.start()
		<-p.hook("app")
		free()
		if code := p.code(); code != 0 {
			t.Errorf("exit code %d, want 0: always with --exit-with", code)
		}
	})
}

// An answered hook, a restart of one container and an aborted drain must not leave a watchdog that bites later.
func TestWatchdogRestsWhenTheDrainIsOver(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.start()
		p.pass(time.Second)
		ctx, hangUp := context.WithCancel(t.Context())
		p.hookBy(ctx, "app", false)
		p.pass(time.Millisecond)
		hangUp()
		p.until("the restart is over", p.inPhase(drain.Serving))
		p.pass(time.Minute)
		for range 3 {
			<-p.hook("app")
			p.pass(25 * time.Second)
		}
		p.stopAll()
		if code := p.code(); code != 0 {
			t.Errorf("exit code %d, want 0\n%s", code, p.story())
		}
	})
}

// The call that aborted a drain begins the next one, with a watchdog of its own.
func TestWatchdogCountsFromTheNextDrain(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.cfg.Policy.ConfirmWindow = 4 * time.Second
		p.inApp = drain.Known(1)
		p.start()
		p.pass(time.Second)
		p.hook("app")
		p.pass(3 * time.Second)
		p.hook("proxy")
		p.pass(10 * time.Second)
		p.set(func() { p.inApp = drain.Known(0) })
		p.until("the app is let go", func() bool { return p.said("answer app") })
		p.set(func() { p.inApp = drain.Known(1) })
		p.hook("app") // nothing proved a pod stop: a new fact
		p.until("aborted", func() bool { return len(p.verdicts()) == 1 })
		p.until("the next drain is over", func() bool { return len(p.verdicts()) == 2 })
		if all := p.verdicts(); all[0].Outcome != "aborted" || all[1].Outcome == "watchdog" || all[1].TotalMS != (p.now()-4*time.Second).Milliseconds() {
			t.Errorf("%s", p.story())
		}
	})
}
