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

	Errors  drain.Count      // requests that failed behind the proxy so far, as of the same moment as InFlight
	Classes map[string]int64 // the part of InFlight whose class can be told
	Live    drain.Liveness
	Rung    string        // which rung InFlight came from
	Note    string        // something a person should know of this look, such as a rung given up
	Took    time.Duration // what the look cost Envoy
	Spared  time.Duration // the part of Took that the next look need not be put off for

	Age, StatsAge, RequestsAge time.Duration // how old InFlight is, Conns and NewConns, and Requests
	StatsEvery                 time.Duration // how often they are read where that is more rarely than a look
	Failure                    string        // kind of failure for the metrics; "" when none
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
	Classes   func() map[string]int64 // the part of the newest reading whose class can be told; nil tells none
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
	Classes(side, rung string, classes map[string]int64)
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
	inputs chan message
	ended  chan struct{} // closed when nothing is decided any more
	code   atomic.Int32
	spoken atomic.Bool    // the verdict is out that ends the agent, and code is its own
	work   sync.WaitGroup // what Run waits for a little

	mu     sync.Mutex // guards what follows; held by the loop while it steps
	state  drain.State
	track  track
	failed map[drain.Actions]string // how an action failed last, while it does

	fast    atomic.Bool
	pollers []*poller
	actions chan drain.Actions
	journal journal
	epoch   atomic.Pointer[string]

	hooks hooks
	last  atomic.Pointer[answered] // for callers that meet the end of the agent
	once  sync.Once                // of the end
}

// message is an input on its way to the loop, with what the core need not know.
type message struct {
	drain.Input
	call *call  // of a hook
	text string // the operator's reason, or the name of an unknown container

	classes map[string]int64 // of the reading's count
	errors  drain.Count      // of the proxy, at the same moment
}

// New prepares a conductor; nothing runs yet.
func New(cfg Config) *Conductor {
	c := &Conductor{
		cfg: cfg, start: time.Now(),
		inputs: make(chan message, 256), ended: make(chan struct{}),
		actions: make(chan drain.Actions, 16),
		journal: journal{path: cfg.World.Journal},
	}
	c.hooks.waiting = map[drain.ID][]*call{}
	c.track, c.failed = newTrack(), map[drain.Actions]string{}
	c.last.Store(&answered{phase: drain.Serving.String()})
	c.makePollers()
	return c
}

// Run conducts until the agent has nothing more to do, and returns the process's exit code. When ctx ends it returns at once.
func (c *Conductor) Run(ctx context.Context) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.restore("")
	for _, p := range c.pollers {
		c.work.Go(func() { p.run(ctx) })
	}
	c.work.Go(func() { c.act(ctx) })
	go c.loop(ctx)
	select {
	case <-c.ended:
	case <-ctx.Done():
		c.end(0, nil)
	}
	cancel()
	c.hooks.answerAll(*c.last.Load())
	waitAtMost(&c.work, time.Second)
	return int(c.code.Load())
}

// Terminate reports the agent's own SIGTERM.
func (c *Conductor) Terminate() {
	c.hooks.terminated(c)
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
	c.mu.Unlock()
	if err := allowed(kind, phase); err != nil {
		return "", err
	}
	c.deliver(message{Input: drain.Input{Kind: kind}, text: clip(reason, maxReason)})
	return fmt.Sprintf("%s accepted in phase %s", verb, phase), nil
}

func allowed(kind drain.Kind, phase drain.Phase) error {
	switch {
	case kind == drain.AskedDrain && phase != drain.Serving:
		return fmt.Errorf("only possible while serving; the phase is %s", phase)
	case kind == drain.AskedUndrain && phase != drain.Maintenance:
		return fmt.Errorf("only possible in maintenance; the phase is %s", phase)
	case kind == drain.AskedFinish && (phase == drain.Serving || phase == drain.Maintenance || phase == drain.Finished):
		return fmt.Errorf("nothing is being drained; the phase is %s", phase)
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
func (c *Conductor) send(in drain.Input) { c.deliver(message{Input: in}) }

func (c *Conductor) deliver(m message) {
	select {
	case c.inputs <- m:
	case <-c.ended:
	}
}

// over reports whether Run returns, or soon will.
func (c *Conductor) over() bool {
	select {
	case <-c.ended:
		return true
	default:
		return false
	}
}

// end makes Run return. The first call counts; Run waits a little for its last, which may hang.
func (c *Conductor) end(code int, last func()) {
	c.once.Do(func() {
		if last != nil {
			c.work.Go(last)
		}
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
