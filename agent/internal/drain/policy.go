package drain

import "time"

// Limits of a pod as the core sees it. Fixed, so that a State is a plain value.
const (
	MaxContainers = 16
	MaxSources    = 16
	Stranger      = ID(MaxContainers) // stands for every hook name that the configuration does not know
	Nobody        = ID(0xff)
)

// ID is the index of a container in Policy.Containers, or Stranger.
type ID uint8

// Container is one container of the pod whose stop we can hold.
type Container struct {
	Name     string
	Stage    int           // position in the stop order from 0; -1 for the agent itself
	Stop     time.Duration // its share of the grace period between SIGTERM and its end
	Sleep    time.Duration // observe mode: how long its hook sleeps today
	Outlives bool          // it ends after us: never wait for its end
	Agent    bool
	Proxy    bool
	Worker   bool // it pulls its work: SIGTERM tells it to stop, and only its end says that it has
}

// FailReadiness says when readiness fails on a pod stop.
type FailReadiness uint8

// When readiness fails on a pod stop.
const (
	FailNever FailReadiness = iota
	FailWhenDraining
	FailAtTrigger
)

// Policy is everything the core is told before the first input. It does not change afterwards.
type Policy struct {
	Containers []Container // at most MaxContainers
	Sources    []ID        // the container that each configured app source counts for; at most MaxSources
	Pushed     uint32      // one bit for each source that is cheap to ask and says itself when it changes
	Hooks      Set         // containers that have a hook

	ProxyAdmin bool // Envoy's admin is configured
	AppDrain   bool // the app wants to be told when draining begins
	QuitProxy  bool // quit Envoy at the end
	Observe    bool // do nothing, answer hooks as the user's sleeps did, say what we would have done
	ExitWith   Set  // the containers with whose end, all of them, the agent quits the proxy and exits

	Grace, Margin                time.Duration
	ConfirmWindow, RestartMax    time.Duration
	Propagation, AnnounceMax     time.Duration
	QuietMin, QuietMax, Exposure time.Duration
	DrainMax, Settle             time.Duration // DrainMax 0: what the budget leaves
	AbortAfter                   time.Duration // all hooks answered and no SIGTERM: undo after this
	IdleSample                   time.Duration // one sample of the arrival rates per this in serving
	Background                   float64       // requests per second through Envoy that are probes and scrapes
	AcceptLoss                   float64       // the stopping score that is low enough
	Readiness                    FailReadiness
}

// Defaults returns the policy of the flags' defaults, for the usual pod of app, proxy and agent.
func Defaults() Policy {
	return Policy{
		Containers: []Container{
			{Name: "app", Stage: 0, Stop: 5 * time.Second},
			{Name: "proxy", Stage: 1, Stop: 2 * time.Second, Proxy: true},
			{Name: "agent", Stage: -1, Agent: true},
		},
		Sources: []ID{0}, Hooks: 0b111, ProxyAdmin: true,
		Grace: 30 * time.Second, Margin: 2 * time.Second,
		ConfirmWindow: time.Second, RestartMax: 2 * time.Second,
		Propagation: 1500 * time.Millisecond, AnnounceMax: 2 * time.Second,
		QuietMin: 500 * time.Millisecond, QuietMax: 15 * time.Second, Exposure: 200 * time.Millisecond,
		Settle: 200 * time.Millisecond, AbortAfter: 5 * time.Second, IdleSample: 30 * time.Second,
		AcceptLoss: 0.02,
	}
}

// Find returns the container of that name, or Stranger.
func (p *Policy) Find(name string) ID {
	for i := range p.Containers {
		if p.Containers[i].Name == name {
			return ID(i)
		}
	}
	return Stranger
}

// Name returns the container's name; Stranger's is "unknown".
func (p *Policy) Name(id ID) string {
	if int(id) < len(p.Containers) {
		return p.Containers[id].Name
	}
	return "unknown"
}

// Agent returns the container that we are, or Nobody.
func (p *Policy) Agent() ID { return p.find(func(c *Container) bool { return c.Agent }) }

// Proxy returns the container of the Envoy, or Nobody.
func (p *Policy) Proxy() ID { return p.find(func(c *Container) bool { return c.Proxy }) }

// Direct reports whether clients come straight to the containers: the sockets at their ports are the clients' own. Behind an Envoy that
// cannot be read they are that Envoy's pool, which says nothing of its clients.
func (p *Policy) Direct() bool { return !p.ProxyAdmin && p.Proxy() == Nobody }

func (p *Policy) find(is func(*Container) bool) ID {
	for i := range p.Containers {
		if is(&p.Containers[i]) {
			return ID(i)
		}
	}
	return Nobody
}

func (p *Policy) worker(id ID) bool {
	return int(id) < len(p.Containers) && p.Containers[id].Worker
}

// stage is the stage with which the container's hook is answered: strangers go with the first.
func (p *Policy) stage(id ID) int {
	if int(id) < len(p.Containers) {
		return p.Containers[id].Stage
	}
	return 0
}

// Stages returns the number of stages in the stop order.
func (p *Policy) Stages() int {
	n := 0
	for i := range p.Containers {
		n = max(n, p.Containers[i].Stage+1)
	}
	return n
}

// Set is a set of containers, one bit for each ID.
type Set uint32

// Has reports whether the container is in the set.
func (s Set) Has(id ID) bool { return id <= Stranger && s&(1<<id) != 0 }

// With returns the set with the container in it.
func (s Set) With(id ID) Set { return s | 1<<id }
