// Package conductor runs the one loop of the agent: inputs go into drain.Step, its decisions are carried out, the results come
// back as inputs. It decides nothing itself. Hooks have a way out that does not need the loop: the watchdog.
package conductor

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/timeline"
)

// ProxyLook is what one look at Envoy gave. Counts that could not be read are unknown.
type ProxyLook struct {
	InFlight, Conns, NewConns, Requests drain.Count

	Live    drain.Liveness
	Rung    string        // which rung InFlight came from
	Note    string        // something a person should know of this look, such as a rung given up
	Took    time.Duration // what the look cost Envoy
	Failure string        // kind of failure for the metrics; "" when none
}

// Description is what is known of one Envoy process.
type Description struct {
	Facts drain.ProxyFacts
	Epoch string // identifies the process: what was done to another one must not be undone on this one
	Text  string // for the timeline
}

// AppSource reads how much one container still has in flight.
type AppSource struct {
	Container drain.ID
	Spec      string
	Read      func(context.Context) (drain.Count, error)
}

// Watch looks whether a container is still there.
type Watch struct {
	Container drain.ID
	Look      func(context.Context) (drain.Liveness, error)
}

// Sockets looks at the inbound ports' sockets.
type Sockets func(context.Context) (conns, newConns drain.Count, err error)

// World is everything outside: what can be read and what can be done. Nil functions are things that this pod does not have.
// They may block until their context ends, never longer.
type World struct {
	Describe func(context.Context) (Description, error)
	Proxy    func(context.Context) ProxyLook
	Apps     []AppSource
	Watches  []Watch
	Sockets  Sockets
	Act      func(context.Context, drain.Actions) error
	Journal  string // file that remembers what was done to Envoy; "" keeps none
}

// Metrics takes the figures of a drain as they arise.
type Metrics interface {
	SetPhase(phase string)
	PhaseLeft(phase string, spent time.Duration)
	Verdict(outcome string, total time.Duration)
	InFlight(side, rung string, n int64, known bool)
	Hold(container string, held time.Duration)
	NewConnections(n int64)
	Score(score float64, known bool)
	Poll(took time.Duration, failure string)
	UnknownHook()
}

// Config is what a Conductor needs. All fields must be set.
type Config struct {
	Policy   drain.Policy
	World    World
	Recorder *timeline.Recorder
	Metrics  Metrics
	Poll     time.Duration // shortest period between two readings of one source
}

// Conductor is the loop and what it owns. Make one with New and call Run once.
type Conductor struct {
	cfg    Config
	start  time.Time
	inputs chan drain.Input
	ended  chan struct{} // closed when nothing is decided any more
	code   atomic.Int32

	mu    sync.Mutex // guards what follows; held by the loop while it steps
	state drain.State
	track track

	fast    atomic.Bool
	pollers []*poller
	actions chan drain.Actions
	journal journal
	epoch   atomic.Pointer[string]

	hooks hooks
	once  sync.Once // of the end
}

// New prepares a conductor; nothing runs yet.
func New(cfg Config) *Conductor {
	c := &Conductor{
		cfg: cfg, start: time.Now(),
		inputs: make(chan drain.Input, 256), ended: make(chan struct{}),
		actions: make(chan drain.Actions, 16),
		journal: journal{path: cfg.World.Journal},
	}
	c.hooks.waiting = map[drain.ID][]*call{}
	c.track = newTrack()
	c.makePollers()
	return c
}

// Run conducts until the agent has nothing more to do, and returns the process's exit code. When ctx ends it returns at once.
func (c *Conductor) Run(ctx context.Context) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var work sync.WaitGroup
	for _, p := range c.pollers {
		work.Go(func() { p.run(ctx) })
	}
	work.Go(func() { c.act(ctx) })
	if c.cfg.World.Describe == nil {
		if left, ok := c.journal.load(""); ok {
			c.send(drain.Input{Kind: drain.Restored, Journal: left})
		}
	}
	go c.loop(ctx)
	select {
	case <-c.ended:
	case <-ctx.Done():
		c.end(0)
	}
	cancel()
	c.hooks.answerAll(c.lastAnswer)
	waitAtMost(&work, time.Second)
	return int(c.code.Load())
}

// Terminate reports the agent's own SIGTERM.
func (c *Conductor) Terminate() {
	c.hooks.arm(c)
	c.send(drain.Input{Kind: drain.Terminated})
}

// Operate carries out an operator's verb. The reason stands in the timeline.
func (c *Conductor) Operate(verb, reason string) (string, error) {
	kinds := map[string]drain.Kind{"drain": drain.AskedDrain, "undrain": drain.AskedUndrain, "finish": drain.AskedFinish}
	kind, ok := kinds[verb]
	if !ok {
		return "", fmt.Errorf("carry out %q: unknown verb; want drain, undrain or finish", verb)
	}
	c.mu.Lock()
	phase := c.state.Phase
	if err := allowed(kind, phase); err != nil {
		c.mu.Unlock()
		return "", err
	}
	c.track.asked = reason
	c.mu.Unlock()
	c.send(drain.Input{Kind: kind})
	return fmt.Sprintf("%s accepted in phase %s", verb, phase), nil
}

func allowed(kind drain.Kind, phase drain.Phase) error {
	switch {
	case kind == drain.AskedDrain && phase != drain.Serving:
		return fmt.Errorf("drain: only possible while serving; the phase is %s", phase)
	case kind == drain.AskedUndrain && phase != drain.Maintenance:
		return fmt.Errorf("undrain: only possible in maintenance; the phase is %s", phase)
	case kind == drain.AskedFinish && (phase == drain.Serving || phase == drain.Maintenance || phase == drain.Finished):
		return fmt.Errorf("finish: nothing is being drained; the phase is %s", phase)
	}
	return nil
}

// Ready reports whether readiness succeeds, and the phase.
func (c *Conductor) Ready() (bool, string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return drain.Ready(&c.cfg.Policy, &c.state), c.state.Phase.String()
}

func (c *Conductor) elapsed() time.Duration { return time.Since(c.start) }

// send hands an input to the loop; after the end it is dropped.
func (c *Conductor) send(in drain.Input) {
	select {
	case c.inputs <- in:
	case <-c.ended:
	}
}

// end makes Run return. The first code counts.
func (c *Conductor) end(code int) {
	c.once.Do(func() {
		c.code.Store(int32(code))
		close(c.ended)
	})
}

func waitAtMost(work *sync.WaitGroup, d time.Duration) {
	done := make(chan struct{})
	go func() { work.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(d):
	}
}
