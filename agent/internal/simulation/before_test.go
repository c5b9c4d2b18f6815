package simulation

import (
	"context"
	"sync"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// before plays what happens to the pod in its life before it is stopped.
func (p *pod) before(ctx context.Context) {
	<-time.After(p.sc.Warm / 3)
	switch p.sc.Before {
	case "restart":
		p.restartApp(ctx)
	case "strangers":
		p.strangers(ctx).Wait()
		p.until(p.sc.Warm - 5*sec)
		p.with(func() {
			p.app.portClosed = false // its liveness probe has it started again
			p.checkUntouched("after strangers called two hooks")
		})
	case "strangers again":
		p.strangersAgain(ctx)
	case "agent killed":
		p.agentKilled(ctx)
	case "wish": // for a moment, while Envoy takes nothing and a container is restarted
		p.with(func() { p.deafUntil = p.now + 3*sec })
		p.agent().Intend(drain.DrainFile, true, "test")
		<-time.After(100 * ms)
		go p.agent().Hook(ctx, "app", p.sc.Token)
		<-time.After(100 * ms)
		p.agent().Intend(drain.DrainFile, false, "test")
		<-time.After(6 * sec)
		p.with(func() { p.checkUntouched("after a wish taken back") })
	case "maintenance":
		_, _ = p.agent().Operate("drain", "test")
		<-time.After(3 * sec)
		_, _ = p.agent().Operate("undrain", "test")
		<-time.After(3 * sec)
		p.with(func() { p.checkUntouched("after maintenance") })
	}
}

// until waits for a time of the pod.
func (p *pod) until(at time.Duration) { <-time.After(at - time.Since(p.began)) }

// strangers call two hooks of a pod that nobody stops.
func (p *pod) strangers(ctx context.Context) *sync.WaitGroup {
	var both sync.WaitGroup
	for _, name := range []string{"app", "proxy"} {
		both.Go(func() { p.agent().Hook(ctx, name, false) })
	}
	return &both
}

// strangersAgain is a stop that strangers began and whose wait an operator ended. One of them calls a hook again, which takes that stop
// back; nothing of it belongs to the one that comes much later.
func (p *pod) strangersAgain(ctx context.Context) {
	chance := newDice(p.sc.Seed, "strangers again", 0)
	both := p.strangers(ctx)
	<-time.After(chance.between(100*ms, 1400*ms))
	_, _ = p.agent().Operate("finish", "test")
	both.Wait()
	<-time.After(chance.between(0, 3*sec))
	p.agent().Hook(ctx, "app", false)
	p.until(p.sc.Warm - 5*sec)
	p.with(func() {
		p.app.portClosed = false // its liveness probe has it started again
		p.checkUntouched("after a stop of strangers was taken back")
	})
}

// agentKilled is the end of the agent's process while Envoy's health is failed, by maintenance or by a stop that strangers began: the
// next process goes on with what somebody wants, and takes back what nobody does.
func (p *pod) agentKilled(ctx context.Context) {
	chance := newDice(p.sc.Seed, "agent killed", 0)
	maintenance := chance.chance(0.3)
	if maintenance {
		_, _ = p.agent().Operate("drain", "test")
	} else {
		p.strangers(ctx) // the answer that its end gives them says nothing
	}
	<-time.After(chance.between(100*ms, 5*sec))
	var failed bool
	p.with(func() { failed = p.envoy.failed })
	p.killAgent(chance.between(10*ms, 2*sec))
	<-time.After(4 * sec)
	if maintenance {
		p.with(func() {
			if failed && !p.envoy.failed {
				p.breaks("the next agent forgot the maintenance")
			}
		})
		_, _ = p.agent().Operate("undrain", "test")
		<-time.After(3 * sec)
	}
	p.with(func() {
		p.app.portClosed = false // its liveness probe has it started again
		p.checkUntouched("after the agent was killed and started again")
	})
}

// restartApp is what kubelet does after a failed liveness probe: the hook, SIGTERM, SIGKILL at the end of the grace period, and a new process.
func (p *pod) restartApp(ctx context.Context) {
	called := time.Since(p.began)
	p.agent().Hook(ctx, "app", p.sc.Token)
	p.with(func() {
		p.checkUntouched("after a container's restart")
		p.checkRestart(called)
		p.terminate("restart")
	})
	for up := true; up; {
		<-time.After(20 * ms)
		p.with(func() {
			if p.now > called+p.sc.Grace {
				p.endApp("restart")
			}
			up = p.app.up
		})
	}
	<-time.After(newDice(p.sc.Seed, "restart", 0).between(300*ms, 3*sec))
	p.with(func() {
		p.note("app starts again")
		p.app.up, p.app.listens, p.app.told, p.app.ended, p.app.endedBy = true, true, false, 0, ""
	})
}

// checkRestart is the promise that a container which is restarted alone is held until nothing is in flight, for --restart-max at most: a
// look that began before its hook came shows nothing.
func (p *pod) checkRestart(called time.Duration) {
	if p.sc.Observe || p.now >= called+min(p.policy.RestartMax, p.budget().hard)-slack {
		return
	}
	look := p.looks["app"]
	if look < called {
		p.breaks("a container that is restarted alone was let go by a look from before its hook")
	}
	for r := range p.app.active {
		if r.sent < look-2*hop {
			p.breaks("a container that is restarted alone was let go while a request was in flight")
			return
		}
	}
}
