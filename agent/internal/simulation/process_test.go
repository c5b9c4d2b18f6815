package simulation

import (
	"context"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/conductor"
	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/timeline"
	"github.com/drain-agent/drain-agent/scripts/promises"
)

// process is one process of the agent. A pod may see several of them, one after the other; what they leave each other is the journal.
type process struct {
	*conductor.Conductor
	began  time.Duration // in the pod's time
	kill   context.CancelFunc
	exited chan struct{}  // closed when it has ended
	beside promises.Watch // somebody beside it, who is shown what it is shown
	told   *promises.Pod  // of its policy
}

// startAgent starts the agent's process, the first one or the next.
func (p *pod) startAgent() {
	ctx, kill := context.WithCancel(context.Background())
	a := &process{began: time.Since(p.began), kill: kill, exited: make(chan struct{}), told: p.watched()}
	a.Conductor = conductor.New(conductor.Config{
		Policy: p.policy, Recorder: timeline.NewRecorder(p.take), Metrics: noMetrics{}, Poll: 25 * ms,
		Saw: func(in drain.Input, s *drain.State, d drain.Decision) { p.saw(a, in, s, d) },
		World: conductor.World{
			Describe: p.describe, Proxy: p.look, Sockets: p.lookAtSockets, Act: p.act, Journal: p.journal,
			Apps:    []conductor.AppSource{{Container: p.policy.Find("app"), Spec: "model", Read: p.read}},
			Watches: []conductor.Watch{{Container: p.policy.Find("app"), Look: p.watch}},
		},
	})
	p.with(func() {
		p.process = a
		p.note("the agent starts")
	})
	go func() {
		a.Run(ctx)
		close(a.exited)
	}()
}

// agent is the process that runs now, or ran last.
func (p *pod) agent() *process {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.process
}

// killAgent ends the process as SIGKILL does, and starts the next one, as kubelet does, some time later.
func (p *pod) killAgent(startsAfter time.Duration) {
	a := p.agent()
	p.with(func() { p.note("the agent is killed") })
	a.kill()
	<-a.exited
	<-time.After(startsAfter)
	p.startAgent()
}
