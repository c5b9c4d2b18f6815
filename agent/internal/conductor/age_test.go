package conductor

import (
	"context"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// A zero that rests on statistics read before the drain proves nothing, however often it is repeated.
func TestZeroIsAsOldAsItsStatistics(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		statsRead := time.Duration(-1) // when; as long as it is below zero, each look reads them
		p.readProxy = func(context.Context) {
			p.set(func() {
				p.proxyLook.Age, p.proxyLook.StatsAge, p.proxyLook.StatsEvery = 0, 0, 0
				if statsRead >= 0 {
					age := p.now() - statsRead
					p.proxyLook.Age, p.proxyLook.StatsAge, p.proxyLook.StatsEvery = age, age, 10*time.Second
				}
			})
		}
		p.inApp = drain.Known(1)
		p.stopped()
		p.pass(2 * time.Second)
		p.set(func() { statsRead = p.now() })
		p.pass(time.Second)
		p.set(func() { p.inApp = drain.Known(0) })
		p.until("settling", p.inPhase(drain.Settling))
		p.pass(5 * time.Second)
		if phase := p.c.Status().Phase; phase != drain.Settling.String() {
			t.Errorf("in %s by a zero from before, want settling\n%s", phase, p.story())
		}
		p.set(func() { statsRead = p.now() })
		p.pass(time.Second)
		if got := p.c.Status().Phase; got == drain.Settling.String() {
			t.Errorf("still %s with a zero from now\n%s", got, p.story())
		}
		p.code()
	})
}

func TestRareReadingsPutNothingOff(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.proxyLook.InFlight, p.proxyLook.Spared = drain.Known(1), 9*time.Millisecond
		p.readProxy = func(context.Context) { <-time.After(10 * time.Millisecond) }
		p.stopped()
		p.pass(10 * time.Second)
		p.mu.Lock()
		defer p.mu.Unlock()
		wantEvery(t, "proxy", p.proxyReads, drain.Steadily.Every(25*time.Millisecond))
	})
}

// Counters that are read rarely are as fresh as they are read often: an idle pod does not wait for quiet-max because of it.
func TestRareCountersStayFresh(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		const every = 900 * time.Millisecond
		read := time.Duration(0)
		p.readProxy = func(context.Context) {
			p.set(func() {
				if p.now()-read >= every {
					read = p.now()
				}
				age := p.now() - read
				p.proxyLook.Age, p.proxyLook.StatsAge, p.proxyLook.StatsEvery = age, age, every
			})
			<-time.After(time.Millisecond) // what was read stands in the core a little later
		}
		p.stopped()
		p.until("stopping", p.inPhase(drain.Stopping))
		if took := p.now() - 5*time.Second; took > 5*time.Second {
			t.Errorf("stopping began after %v\n%s", took, p.story())
		}
		p.code()
	})
}
