package conductor

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

func TestConcurrentAndDuplicateHooksAreJoined(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.start()
		p.pass(time.Second)
		var calls []<-chan Answer
		for i := range 200 {
			calls = append(calls, p.hook([]string{"app", "proxy", "agent"}[i%3]))
		}
		p.stopAll()
		p.code()
		answers := map[string]int{}
		for _, call := range calls {
			got := <-call
			answers[fmt.Sprint(got.Container, " ", got.Outcome, " ", got.Held)]++
		}
		if len(answers) != 3 {
			t.Errorf("answers differ between callers of one hook: %v", answers)
		}
		for _, name := range []string{"app", "proxy", "agent"} {
			p.sayOnce("hold " + name + ",")
			p.sayOnce(": answer " + name)
		}
		if got := p.verdict().Outcome; got != "clean" {
			t.Errorf("outcome %s, want clean", got)
		}
	})
}

// A call that joins one that is being answered is answered with it. It is no new fact, which would abort the drain.
func TestCallJoinedAtTheLastMomentIsNoNewFact(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		var late <-chan Answer
		p.sink = lineOnce(func(story string) bool { return strings.HasPrefix(story, "answer app") }, func() {
			late = p.hook("app") // the loop is busy: its message comes after the answer
			for joined := false; !joined; runtime.Gosched() {
				p.c.hooks.mu.Lock()
				joined = len(p.c.hooks.waiting[app]) == 2
				p.c.hooks.mu.Unlock()
			}
		})
		p.stopped()
		p.code()
		if got := (<-late).Outcome; got != "clean" {
			t.Errorf("late call's outcome %q, want clean", got)
		}
		if got := p.verdict().Outcome; got != "clean" {
			t.Errorf("outcome %s, want clean\n%s", got, p.story())
		}
	})
}

func TestCallerThatHangsUpStaysAFact(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.start()
		p.pass(time.Second)
		ctx, hangUp := context.WithCancel(t.Context())
		gone := p.hookBy(ctx, "app", false)
		p.pass(100 * time.Millisecond)
		hangUp()
		if got := <-gone; got.Phase != "gave up" || got.Held != 100*time.Millisecond {
			t.Errorf("answer %+v", got)
		}
		again := p.hook("app")
		p.hook("proxy")
		p.until("a pod stop", p.inPhase(drain.Announcing))
		p.stopAll()
		p.code()
		if got := p.verdict(); got.Outcome != "clean" || !strings.HasPrefix(got.Trigger, "hook app") {
			t.Errorf("verdict %+v", got)
		}
		if got := (<-again).Outcome; got != "clean" {
			t.Errorf("second caller's outcome %q", got)
		}
	})
}

func TestUnknownNameIsHeldAndReported(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.start()
		p.pass(time.Second)
		long := strings.Repeat("x", 10_000)
		stranger := p.hook(long)
		p.pass(time.Second / 2)
		select {
		case got := <-stranger:
			t.Fatalf("answered at once: %+v", got)
		default:
		}
		p.stopAll()
		p.code()
		if got := <-stranger; got.Held < p.cfg.Policy.Propagation || got.Container != long {
			t.Errorf("held for %v, want until the first stage was answered", got.Held)
		}
		if p.metrics.unknown != 1 {
			t.Errorf("counted %d unknown hooks, want 1", p.metrics.unknown)
		}
		p.sayOnce("hook of unknown container")
		if p.said(strings.Repeat("x", 65)) {
			t.Error("a stranger's text stands in the timeline without a bound")
		}
	})
}

func TestHookCalledWhileRunEndsIsAnswered(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		var last []<-chan Answer
		p.sink = func(l timelineLine) {
			if l.Verdict != nil {
				last = append(last, p.hook("app"), p.hook("nobody"))
			}
		}
		p.stopped()
		p.code()
		last = append(last, p.hook("proxy")) // after the end
		for _, call := range last {
			if got := <-call; got.Outcome != "clean" || got.Phase != "finished" || got.Held != 0 {
				t.Errorf("answer %+v, want clean at once", got)
			}
		}
		if len(last) != 3 {
			t.Errorf("%d late calls, want 3", len(last))
		}
	})
}

// Whoever reads the status while the agent ends must not make the hooks' answers say watchdog.
func TestEndIsAnsweredTruthfullyWhileTheLockIsTaken(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.c = New(p.cfg)
		p.c.mu.Lock()
		defer p.c.mu.Unlock()
		answer := p.hook("app")
		synctest.Wait()
		p.c.end(0, nil)
		if got := <-answer; got.Outcome != "" || got.Phase != "serving" {
			t.Errorf("answer %+v, want the phase serving", got)
		}
	})
}

func TestSigtermAloneEndsTheAgentSoon(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.start()
		p.pass(5 * time.Second)
		p.c.Terminate()
		if code := p.code(); code != 0 {
			t.Errorf("exit code %d, want 0", code)
		}
		if took := p.now() - 5*time.Second; took > p.cfg.Policy.ConfirmWindow+500*time.Millisecond {
			t.Errorf("took %v, want at most confirm-window and half a second", took)
		}
		v := p.verdict()
		if v.Outcome != "container_restart" || v.Trigger != "SIGTERM" || len(p.acts) != 0 {
			t.Errorf("verdict %+v, done to envoy %v", v, p.acts)
		}
	})
}

// SIGTERM of a classic pod comes before the hooks.
func TestSigtermBeforeTheHooksIsAFact(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.start()
		p.pass(5 * time.Second)
		p.c.Terminate()
		p.pass(50 * time.Millisecond)
		first, second := p.hook("app"), p.hook("proxy")
		p.until("the app is let go", func() bool { return p.said("answer app") })
		p.set(func() { p.appLive = drain.Gone })
		p.until("the proxy is let go", func() bool { return p.said("answer proxy") })
		p.set(func() { p.proxyLook = ProxyLook{Live: drain.Gone, Failure: refused} })
		p.code()
		<-first
		<-second
		if v := p.verdict(); v.Outcome != "clean" || !strings.HasSuffix(v.Trigger, "SIGTERM") {
			t.Errorf("verdict %+v", v)
		}
		if !slices.Contains(p.acts, "drain_listeners <nil>") {
			t.Errorf("done to envoy %v: want drain_listeners, SIGTERM cannot be forged", p.acts)
		}
	})
}
