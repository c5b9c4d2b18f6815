package pod

import (
	"fmt"
	"sync"
	"syscall"
	"time"
)

const (
	// minimumGrace is what a container gets between SIGTERM and SIGKILL however little is left (kubelet's minimumGracePeriodInSeconds).
	minimumGrace = 2 * time.Second
	// hookLag is how long after the deletion hooks arrive (measured: median 16 ms).
	hookLag = 16 * time.Millisecond
	// hookLagBehindSigterm is the same where a regular container without a hook gets its SIGTERM first (measured: 51 ms).
	hookLagBehindSigterm = 50 * time.Millisecond
)

// terminate stops all running containers at once, each as its own hook allows, native sidecars in their turn.
func (p *Pod) terminate(cause string, grace time.Duration) {
	p.mu.Lock()
	p.terminating = true
	var alive []*container
	lag := hookLag
	for _, c := range p.containers {
		if c.state != running {
			continue
		}
		alive = append(alive, c)
		if !c.init && preStop(c) == nil {
			lag = hookLagBehindSigterm
		}
	}
	p.addLocked(Event{Kind: T0, Detail: cause})
	p.mu.Unlock()

	turns := newOrdering(alive)
	var all sync.WaitGroup
	for _, c := range alive {
		all.Go(func() {
			p.killContainer(c, cause, grace, turns, lag)
			close(turns[c])
		})
	}
	all.Wait()
}

// killContainer runs the hook, waits for the container's turn, and sends SIGTERM and in the end SIGKILL. Elapsed time is
// counted in whole seconds, as kubelet does. With nil turns the container is stopped alone.
func (p *Pod) killContainer(c *container, cause string, grace time.Duration, turns ordering, lag time.Duration) {
	p.mu.Lock()
	proc := c.proc
	p.addLocked(Event{Container: c.spec.Name, Kind: Killing, Detail: fmt.Sprintf("%s, grace %v", cause, grace)})
	p.mu.Unlock()
	if preStop(c) != nil && grace > 0 {
		grace -= p.awaitHook(c, proc, grace, lag).Truncate(time.Second)
	}
	if turns != nil && grace > 0 {
		grace -= turns.wait(c, grace).Truncate(time.Second)
	}
	p.stop(c, proc, max(grace, minimumGrace))
}

// stop sends SIGTERM, and SIGKILL after the grace.
func (p *Pod) stop(c *container, proc *process, grace time.Duration) {
	select {
	case <-proc.exited:
		return
	default:
	}
	p.record(c.spec.Name, Sigterm, "")
	_ = proc.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-proc.exited:
	case <-timer.C:
		p.record(c.spec.Name, Sigkill, "")
		_ = proc.cmd.Process.Signal(syscall.SIGKILL)
		<-proc.exited
	}
}

// ordering has a channel per running container, closed when that container has been stopped.
type ordering map[*container]chan struct{}

func newOrdering(alive []*container) ordering {
	o := ordering{}
	for _, c := range alive {
		o[c] = make(chan struct{})
	}
	return o
}

// wait waits until it is c's turn, at most the grace, and returns how long it took: a native sidecar comes after every
// regular container and after the sidecars that stand behind it.
func (o ordering) wait(c *container, grace time.Duration) time.Duration {
	if !c.init {
		return 0
	}
	start := time.Now()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	for other, stopped := range o {
		if other.init && other.order <= c.order {
			continue
		}
		select {
		case <-stopped:
		case <-timer.C:
			return time.Since(start)
		}
	}
	return time.Since(start)
}
