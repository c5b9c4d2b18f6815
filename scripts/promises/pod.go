// Package promises holds what drain-agent promises as functions, one for each sentence of docs/reference/promises.md.
//
// A [Watch] stands beside the agent. It is shown what came to the agent (hooks, signals, readings) and what the agent did about it, and
// knows nothing of the agent's own state: whoever breaks the rules in there is found out here. The same functions judge the core in every
// order of inputs, simulated pods, and real pods by their log (package fromlog). The agent itself does not link this package.
package promises

import (
	"math"
	"slices"
	"time"
)

// Limits of a pod.
const (
	MaxContainers = 16
	Stranger      = MaxContainers // stands for every hook name that the configuration does not know
)

// Container is what the agent was told of one container.
type Container struct {
	Name                           string
	Stage                          int // in the stop order; -1 for the agent itself
	Stop, Sleep                    time.Duration
	Outlives, Agent, Proxy, Worker bool
}

// Pod is what the agent was told: its flags.
type Pod struct {
	Containers []Container
	Sources    []int    // the container that each app source counts for
	Hooks      Set      // containers that have a hook
	ExitWith   Set      // containers with whose end the agent ends
	Admin      bool     // Envoy's admin is configured
	Observe    bool     // observe mode
	Log        *LogView // nil: everything is shown

	Grace, Margin, Confirm, RestartMax      time.Duration
	Propagation, QuietMin, QuietMax, Settle time.Duration
	AnnounceMax, DrainMax, AbortAfter       time.Duration
	AcceptLoss                              float64
}

// LogView says that only the lines of a log are shown: readings without their age, and of bytes and counters none.
type LogView struct {
	Slack time.Duration // how late a real process on a busy machine may be
}

// rounding is by how much a time may seem too early.
func (p *Pod) rounding() time.Duration {
	if p.Log != nil {
		return 5 * time.Millisecond
	}
	return 0
}

// budget divides the grace period as docs/explanation/how-a-drain-works.md says: it returns when the first hook is answered at the latest,
// when the last is, both from T0, and by how much the shares shrink.
func (p *Pod) budget() (first, last time.Duration, scale float64) {
	shares := p.sharesAfter(-1)
	floor := p.Confirm + p.Propagation + p.Settle + shares + p.Margin
	scale = math.Min(1, float64(p.Grace)/float64(floor))
	last = p.Grace - scaled(p.Margin, scale)
	return last - scaled(shares, scale), last, scale
}

func scaled(d time.Duration, by float64) time.Duration {
	if by == 1 {
		return d
	}
	return time.Duration(float64(d) * by)
}

func (p *Pod) sharesAfter(stage int) (sum time.Duration) {
	for k := stage + 1; k < p.stages(); k++ {
		sum += p.share(k)
	}
	return sum
}

func (p *Pod) share(stage int) (longest time.Duration) {
	for i := range p.Containers {
		if p.Containers[i].Stage == stage {
			longest = max(longest, p.Containers[i].Stop)
		}
	}
	return longest
}

func (p *Pod) stages() (n int) {
	for i := range p.Containers {
		n = max(n, p.Containers[i].Stage+1)
	}
	return n
}

// stage is the stage of a hook: unknown names go with the first, the agent's own comes after the last.
func (p *Pod) stage(id int) int {
	switch {
	case id >= len(p.Containers):
		return 0
	case p.Containers[id].Agent:
		return p.stages()
	}
	return p.Containers[id].Stage
}

func (p *Pod) name(id int) string {
	if id < len(p.Containers) {
		return p.Containers[id].Name
	}
	return "an unknown container"
}

func (p *Pod) find(is func(*Container) bool) int {
	for i := range p.Containers {
		if is(&p.Containers[i]) {
			return i
		}
	}
	return -1
}

func (p *Pod) proxy() int { return p.find(func(c *Container) bool { return c.Proxy }) }
func (p *Pod) agent() int { return p.find(func(c *Container) bool { return c.Agent }) }

func (p *Pod) counted(id int) bool { return slices.Contains(p.Sources, id) }

// Set is a set of containers.
type Set uint32

// Has reports whether the container is in the set.
func (s Set) Has(id int) bool { return id >= 0 && s>>id&1 != 0 }

// Phase is a phase by its name in the log.
type Phase uint8

// The phases in the order of a drain.
const (
	Serving Phase = iota
	Confirming
	Holding
	Maintenance
	Announcing
	Draining
	Settling
	Stopping
	Finished
)

// PhaseOf returns the phase of that name.
func PhaseOf(name string) (Phase, bool) {
	for i, n := range []string{"serving", "confirming", "holding", "maintenance", "announcing", "draining", "settling", "stopping", "finished"} {
		if n == name {
			return Phase(i), true
		}
	}
	return 0, false
}

func (p Phase) terminating() bool { return p >= Announcing }

// Actions is a set of things that the agent does to others.
type Actions uint8

// The actions.
const (
	FailHealth Actions = 1 << iota
	PassHealth
	DrainListeners
	TellApp
	HandOver
	Quit
)

// ActionOf returns the action that the log calls so.
func ActionOf(name string) (Actions, bool) {
	for i, n := range []string{"healthcheck_fail", "healthcheck_ok", "drain_listeners", "app_drain", "handover", "quit_proxy"} {
		if n == name {
			return 1 << i, true
		}
	}
	return 0, false
}

// Decision is what the agent did about what it was shown.
type Decision struct {
	From, To Phase
	Answered Set
	Do       Actions
	Verdict  string // "" when none was written
	Exit     bool

	Score   float64 // the stopping score
	Scored  bool    // it is known
	Arrived time.Duration
}
