// Package conductor runs the one loop of the agent: inputs go into drain.Step, its decisions are carried out, the results come
// back as inputs. It decides nothing itself. Hooks have a way out that does not need the loop: the watchdog.
package conductor

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/timeline"
)

// ProxyLook is what one look at Envoy gave. Counts that could not be read are unknown.
type ProxyLook struct {
	InFlight, Conns, NewConns, Requests drain.Count
	Bytes                               drain.Count // not yet handed to the clients' sockets; as old as InFlight

	Errors  drain.Count      // requests that failed behind the proxy so far, as of the same moment as InFlight
	Classes map[string]int64 // the part of InFlight whose class can be told
	Live    drain.Liveness
	Rung    string        // which rung InFlight came from
	Note    string        // something a person should know of this look, such as a rung given up
	Changed bool          // its configuration is another one now: it must be described again
	Took    time.Duration // what the look cost Envoy
	Spared  time.Duration // the part of Took that the next look need not be put off for
	Behind  bool          // what looks like this one were spared is not paid for yet

	Age, StatsAge, RequestsAge time.Duration // how old InFlight is, Conns and NewConns, and Requests
	StatsEvery                 time.Duration // how often they are read where that is more rarely than a look
	Failure                    string        // kind of failure for the metrics; "" when none
}

// Description is what is known of one Envoy process.
type Description struct {
	Facts drain.ProxyFacts
	Epoch string // identifies the process: what was done to another one must not be undone on this one
	Text  string // for the timeline
	Doubt string // what of it will disturb a drain, and what to do; "" for nothing
}

// AppSource reads how much one container still has in flight.
type AppSource struct {
	Container drain.ID
	Spec      string
	Read      func(context.Context) (drain.Count, error)
	Classes   func() map[string]int64 // the part of the newest reading whose class can be told; nil tells none
	Changed   <-chan struct{}         // delivers when the source may read differently now; nil never does
}

// Watch looks whether a container is still there.
type Watch struct {
	Container drain.ID
	Look      func(context.Context) (drain.Liveness, error)
}

// Sockets looks at the inbound ports' sockets.
type Sockets func(context.Context) (SocketsLook, error)

// SocketsLook is what one look at the inbound ports' sockets gave; drain.SocketSample says what the counts are.
type SocketsLook struct {
	Conns, NewConns, Data, Bytes, Stalled drain.Count
}

// World is everything outside: what can be read and what can be done. Nil functions are things that this pod does not have.
// They may block until their context ends, never longer.
type World struct {
	Describe func(context.Context) (Description, error)
	Proxy    func(ctx context.Context, since time.Time) ProxyLook // the core waits for a zero of that time or later; the zero time: for none
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

// Config is what a Conductor needs.
type Config struct {
	Policy   drain.Policy
	World    World
	Recorder *timeline.Recorder
	Metrics  Metrics
	Poll     time.Duration // shortest period between two readings of one source

	Saw func(drain.Input, *drain.State, drain.Decision) // a judge beside the core, for tests; may be nil
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

	mu       sync.Mutex // guards what follows; held by the loop while it steps
	state    drain.State
	deciding bool // what is recorded belongs to the newest decision
	track    track
	failed   map[drain.Actions]string // how an action failed last, while it does

	pollers []*poller
	lanes   [lanes]chan drain.Actions
	journal journal
	epoch   atomic.Pointer[string]
	look    chan struct{} // Envoy must be described again

	reasons map[drain.Intent]string // of those who want maintenance; guarded by mu

	hooks hooks
	last  atomic.Pointer[answered] // for callers that meet the end of the agent
	once  sync.Once                // of the end
}

// message is an input on its way to the loop, with what the core need not know.
type message struct {
	drain.Input
	call *call  // of a hook
	text string // the reason of who asks, or the name of an unknown container

	classes map[string]int64 // of the reading's count
	errors  drain.Count      // of the proxy, at the same moment
}

// New prepares a conductor; nothing runs yet.
func New(cfg Config) *Conductor {
	c := &Conductor{
		cfg: cfg, start: time.Now(),
		inputs: make(chan message, 256), ended: make(chan struct{}),
		look: make(chan struct{}, 1), reasons: map[drain.Intent]string{},
		journal: journal{path: cfg.World.Journal},
	}
	for i := range c.lanes {
		c.lanes[i] = make(chan drain.Actions, 16)
	}
	c.hooks.waiting = map[drain.ID][]*call{}
	c.track, c.failed = newTrack(), map[drain.Actions]string{}
	c.last.Store(&answered{phase: drain.Serving.String()})
	c.makePollers()
	c.restore("")
	return c
}

// Run conducts until the agent has nothing more to do, and returns the process's exit code. When ctx ends it returns at once.
func (c *Conductor) Run(ctx context.Context) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, p := range c.pollers {
		c.work.Go(func() { p.run(ctx) })
	}
	for _, lane := range c.lanes {
		c.work.Go(func() { c.act(ctx, lane) })
	}
	if c.cfg.World.Describe != nil {
		c.work.Go(func() { c.describeAgain(ctx) })
	}
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
