package simulation

import (
	"context"
	"strings"
	"sync"
	"time"
)

// The shapes of a pod.
const (
	native   = "native"   // sidecars: agent, then proxy
	outlives = "outlives" // sidecars: proxy, then agent, as Istio's injector makes it
	classic  = "classic"  // all are regular containers
	hookless = "hookless" // classic, and the agent has no hook of its own
)

// kubelet stops the pod as a real one does: every hook at T0, SIGTERM to a regular container once its own hook has returned, to
// sidecars after the regular ones have ended and in reverse order; one grace period for all, and two seconds from SIGTERM to SIGKILL
// where it was used up.
func (p *pod) kubelet(ctx context.Context) {
	p.with(func() {
		p.note("kubelet stops the pod")
		p.deletedAt, p.earlier = p.now, len(p.verdicts)
		p.idleRate = float64(p.envoy.requests) / max(0.001, p.now.Seconds())
		p.connsAtT0 = len(p.envoy.conns)
	})
	chance := newDice(p.sc.Seed, "kubelet", 0)
	ended := map[string]chan struct{}{"app": make(chan struct{}), "proxy": make(chan struct{}), "agent": make(chan struct{})}
	var all sync.WaitGroup
	for _, name := range []string{"app", "proxy", "agent"} {
		late := chance.between(0, ms)
		if chance.chance(0.05) {
			late = chance.between(ms, 11*ms) // measured: 11 ms at most
		}
		if name != "agent" {
			late += p.sc.HooksLate
		}
		all.Go(func() {
			<-time.After(late)
			p.stopContainer(ctx, name, p.turns(name, ended))
			close(ended[name])
		})
	}
	all.Wait()
	p.with(func() {
		p.endNetwork()
		p.gone = true
		p.note("the pod has ended")
	})
}

// turns returns the containers whose end a container's SIGTERM waits for.
func (p *pod) turns(name string, ended map[string]chan struct{}) []chan struct{} {
	switch shape := p.sc.Shape; {
	case shape == native && name == "proxy", shape == outlives && name == "agent":
		return []chan struct{}{ended["app"]}
	case shape == native && name == "agent":
		return []chan struct{}{ended["app"], ended["proxy"]}
	case shape == outlives && name == "proxy":
		return []chan struct{}{ended["app"], ended["agent"]}
	}
	return nil
}

func (p *pod) stopContainer(ctx context.Context, name string, turns []chan struct{}) {
	grace := time.After(p.deletedAt + p.sc.RealGrace - time.Since(p.began))
	over := false
	if name != "agent" || p.sc.Shape != hookless {
		over = !p.callHook(ctx, name, grace)
	}
	for _, turn := range turns {
		if over {
			break
		}
		select {
		case <-turn:
		case <-grace:
			over = true
		}
	}
	patience := 2 * sec
	if elapsed := time.Since(p.began) - p.deletedAt; !over {
		patience = max(patience, p.sc.RealGrace-elapsed.Truncate(time.Second))
	}
	p.with(func() {
		if over && p.hardAt == 0 {
			p.hardAt = p.now
		}
		p.sigterm(name)
	})
	p.waitForEnd(name, patience)
	p.with(func() { p.endedAt[name] = p.now })
}

// callHook calls a container's hook; false when the grace period was over first.
func (p *pod) callHook(ctx context.Context, name string, grace <-chan time.Time) bool {
	cut := p.carrierEnds(name)
	select {
	case <-cut:
		p.with(func() {
			p.severed[name] = true
			p.hookAnswered(name)
		})
		return true
	default:
	}
	p.heard(name)
	ctx, hangUp := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		p.agent().Hook(ctx, name, p.sc.Token)
		hangUp()
		close(done)
		p.with(func() { p.hookAnswered(name) })
	}()
	select {
	case <-done:
		return true
	case <-cut: // a hook that failed is over for kubelet
		p.with(func() { p.severed[name] = true })
		hangUp()
		<-done
		return true
	case <-grace:
		return false
	}
}

// carrierEnds is closed at the end of what carries a container's hook; nil where nothing does.
func (p *pod) carrierEnds(name string) <-chan struct{} {
	if strings.Contains(p.sc.Carried, name) {
		return p.envoy.gone
	}
	return nil
}

// heard notes the first fact of the stop, and the first of another container, which makes it a pod stop.
func (p *pod) heard(name string) {
	p.with(func() {
		switch {
		case p.t0 == 0:
			p.t0, p.firstFact = p.now, name
		case p.sureAt == 0 && name != p.firstFact:
			p.sureAt = p.now
		}
	})
}

func (p *pod) sigterm(name string) {
	p.note("SIGTERM to " + name)
	switch name {
	case "app":
		p.terminate("kubelet")
	case "proxy":
		p.after(20*ms, func() { p.endEnvoy("kubelet") })
	case "agent":
		if p.t0 == 0 {
			p.t0, p.firstFact = p.now, name
		}
		p.signal = p.now
		go p.process.Terminate()
	}
}

func (p *pod) waitForEnd(name string, patience time.Duration) {
	kill := time.After(patience)
	for {
		var tick <-chan time.Time
		var exited <-chan struct{}
		if name == "agent" {
			exited = p.agent().exited
		} else {
			up := false
			p.with(func() { up = name == "app" && p.app.up || name == "proxy" && p.envoy.up })
			if !up {
				return
			}
			tick = time.After(5 * ms)
		}
		select {
		case <-exited:
			return
		case <-tick:
		case <-kill:
			p.with(func() { p.sigkill(name) })
			if name == "agent" {
				<-p.agent().exited
			}
			return
		}
	}
}

func (p *pod) sigkill(name string) {
	p.note("SIGKILL to " + name)
	switch name {
	case "app":
		p.endApp("kubelet")
	case "proxy":
		p.endEnvoy("kubelet")
	case "agent":
		p.killed = true
		p.process.kill()
	}
}
