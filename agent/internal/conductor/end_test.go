package conductor

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// unsignalled stops the pod with containers that are gone at once and a kubelet that sends no SIGTERM, up to the verdict.
func (p *pod) unsignalled() {
	p.start()
	p.pass(5 * time.Second)
	calls := []<-chan Answer{p.hook("app"), p.hook("proxy"), p.hook("agent")}
	<-calls[0]
	p.set(func() { p.appLive, p.inApp = drain.Gone, drain.Count{} })
	<-calls[1]
	p.set(func() { p.proxyLook = ProxyLook{Live: drain.Gone, Failure: refused} })
	<-calls[2]
	p.verdict()
}

// After the verdict the process waits for kubelet's SIGTERM as long as for any proof of a stop. Hooks are answered meanwhile; nothing
// more is written.
func TestAgentOutlivesItsVerdictUntilKubeletStopsIt(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.unsignalled()
		said, story := p.now(), p.story()
		p.pass(2 * time.Second)
		if got := <-p.hook("app"); got.Held != 0 || got.Outcome != "clean" || got.Phase != "finished" {
			t.Errorf("a hook after the verdict: %+v, want it answered at once with the outcome", got)
		}
		if code := p.code(); code != 0 || p.now()-said != p.cfg.Policy.AbortAfter {
			t.Errorf("code %d, %v after the verdict, want %v", code, p.now()-said, p.cfg.Policy.AbortAfter)
		}
		if got := p.story(); got != story {
			t.Errorf("something was written after the verdict:\n%s", got)
		}
	})
}

func TestSigtermAfterTheVerdictEndsTheAgent(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.unsignalled()
		said := p.now()
		p.pass(10 * time.Millisecond)
		p.c.Terminate()
		if code := p.code(); code != 0 || p.now()-said != 10*time.Millisecond {
			t.Errorf("code %d, %v after the verdict, want 10ms", code, p.now()-said)
		}
	})
}

// A loop that hangs after its verdict neither keeps a hook nor speaks twice.
func TestWatchdogAfterTheVerdict(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.blind()
		p.start()
		p.pass(time.Second)
		p.hookBy(t.Context(), "app", true)
		<-p.hookBy(t.Context(), "agent", true)
		synctest.Wait()
		stuck := make(chan struct{})
		defer close(stuck)
		p.metrics.onHold = func() { <-stuck }
		said := p.now()
		if got := <-p.hook("app"); got.Outcome != "deadline" {
			t.Errorf("answer %+v", got)
		}
		if waited := p.now() - said; waited != p.cfg.Policy.AbortAfter+2*time.Second {
			t.Errorf("answered %v after the verdict", waited)
		}
		if code := p.code(); code != 2 {
			t.Errorf("exit code %d, want the verdict's", code)
		}
		p.verdict()
	})
}
