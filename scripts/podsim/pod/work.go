package pod

import (
	"context"
	"fmt"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// work is the pod's worker: like kubelet's it does one thing at a time, so that a deletion waits behind the stop of a
// single container.
func (p *Pod) work(ctx context.Context) {
	stop := context.AfterFunc(ctx, p.killAll)
	defer stop()
	relist := time.NewTicker(p.options.Relist)
	defer relist.Stop()
	for !p.step(ctx) {
		select {
		case <-p.wake:
		case <-relist.C:
		case <-p.deleted:
		case <-ctx.Done():
		}
	}
	p.killAll() // whatever a failed start or an ended context left
	for _, c := range p.containers {
		if c.proc != nil {
			<-c.proc.exited
		}
	}
	p.record("", Finished, "")
	p.cleanUp()
	p.kill()
	close(p.done)
}

// step brings the pod nearer to what it should be and reports whether it is finished.
func (p *Pod) step(ctx context.Context) (finished bool) {
	if ctx.Err() != nil {
		return true
	}
	select {
	case <-p.deleted:
		p.terminate("deleted", p.grace)
		return true
	default:
	}
	p.stopCondemned()
	if ctx.Err() != nil {
		return true
	}
	if !p.startInit() {
		return p.failed()
	}
	p.startRegular()
	if p.completed() {
		p.terminate("the main containers are done", p.manifestGrace())
		return true
	}
	return false
}

func (p *Pod) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// condemn asks the worker to stop a container of a pod that lives on.
func (p *Pod) condemn(c *container, cause string, grace *int64) {
	if c == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.state != running || c.condemned != nil {
		return
	}
	c.condemned = &condemnation{cause: cause, grace: p.manifestGrace()}
	if grace != nil {
		c.condemned.grace = time.Duration(*grace) * time.Second
	}
	p.nudge()
}

// stopCondemned stops one container after another.
func (p *Pod) stopCondemned() {
	for _, c := range p.containers {
		p.mu.Lock()
		sentence := c.condemned
		alive := c.state == running
		p.mu.Unlock()
		if sentence != nil && alive {
			p.killContainer(c, sentence.cause, sentence.grace, nil, 0)
		}
	}
}

// startInit starts init containers in order and reports whether the regular containers may start.
func (p *Pod) startInit() bool {
	for _, c := range p.containers {
		if !c.init {
			break
		}
		if c.sidecar || !p.initialised {
			p.startIfDue(c)
		}
		p.mu.Lock()
		passed := p.initialised || c.sidecar && c.started || !c.sidecar && c.state == exited && c.exitCode == 0
		p.mu.Unlock()
		if !passed {
			return false
		}
	}
	p.initialised = true // only the worker reads and writes it
	return true
}

func (p *Pod) startRegular() {
	for _, c := range p.containers {
		if !c.init {
			p.startIfDue(c)
		}
	}
}

// startIfDue starts a container that waits, or that has exited and restarts, unless it is backing off.
func (p *Pod) startIfDue(c *container) {
	p.mu.Lock()
	due := c.state == waiting || c.state == exited && p.restarts(c)
	if due && c.state == exited && c.nextStart.Before(c.endedAt) {
		c.nextStart = c.endedAt // the first restart is immediate
		if c.restarts > 0 {
			c.nextStart = c.endedAt.Add(p.pause(c.restarts))
			p.addLocked(Event{Container: c.spec.Name, Kind: BackOff, Detail: p.pause(c.restarts).String()})
		}
		c.restarts++
	}
	due = due && !time.Now().Before(c.nextStart)
	p.mu.Unlock()
	if due {
		p.start(c)
	}
}

// restarts reports whether an exited container is started again.
func (p *Pod) restarts(c *container) bool {
	policy := p.manifest.Spec.RestartPolicy
	switch {
	case c.sidecar:
		return true
	case c.init:
		return c.exitCode != 0 && policy != corev1.RestartPolicyNever
	case policy == corev1.RestartPolicyOnFailure:
		return c.exitCode != 0
	default:
		return policy == corev1.RestartPolicyAlways
	}
}

// completed reports whether all regular containers have ended for good.
func (p *Pod) completed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.containers {
		if !c.init && (c.state != exited || p.restarts(c)) {
			return false
		}
	}
	return true
}

// failed reports whether an init container has failed for good; the sidecars before it are then stopped.
func (p *Pod) failed() bool {
	for _, c := range p.containers {
		p.mu.Lock()
		over := c.init && !c.sidecar && c.state == exited && c.exitCode != 0 && !p.restarts(c)
		p.mu.Unlock()
		if over {
			p.terminate(fmt.Sprintf("init container %s failed", c.spec.Name), p.manifestGrace())
			return true
		}
	}
	return false
}

// judgeReady recomputes the pod's readiness. The mutex is held.
func (p *Pod) judgeReady() {
	ready := true
	for _, c := range p.containers {
		if !c.init || c.sidecar {
			ready = ready && c.state == running && c.ready
		}
	}
	if ready == p.ready {
		return
	}
	p.ready = ready
	kind := PodNotReady
	if ready {
		kind = PodReady
	}
	p.addLocked(Event{Kind: kind})
}

func (p *Pod) killAll() {
	for _, c := range p.containers {
		if proc := p.running(c.spec.Name); proc != nil {
			_ = proc.cmd.Process.Signal(syscall.SIGKILL)
		}
	}
}
