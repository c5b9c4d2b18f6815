package drain

import "time"

// Phase says where in a pod's life the agent stands. The order is the order of a drain.
type Phase uint8

// The phases; doc.go has the table of their transitions.
const (
	Serving     Phase = iota // nothing is asked of us
	Confirming               // one fact; a second one makes it a pod stop
	Holding                  // one container is being stopped, the pod lives on
	Maintenance              // an operator drained the pod; it can be undone
	Announcing               // the pod is terminating; peers do not know yet
	Draining                 // Envoy tells its clients to leave; waiting for zero
	Settling                 // zero; proving that it stays so
	Stopping                 // hooks are answered, one stage after the other
	Finished                 // all hooks answered
)

var phaseNames = [...]string{"serving", "confirming", "holding", "maintenance", "announcing", "draining", "settling", "stopping", "finished"}

// String returns the name used in logs, metrics and status replies.
func (p Phase) String() string { return phaseNames[p] }

// Phases returns every phase in order.
func Phases() []Phase {
	all := make([]Phase, len(phaseNames))
	for i := range all {
		all[i] = Phase(i)
	}
	return all
}

// Terminating reports whether the pod is being stopped in this phase.
func (p Phase) Terminating() bool { return p >= Announcing }

// Outcome is the one word of a verdict.
type Outcome uint8

// The outcomes. None means that the drain is not over.
const (
	None Outcome = iota
	Clean
	Deadline
	ProxyDied
	AppDied
	FinishedByOperator
	Aborted
	Watchdog
	ContainerRestart
	MaintenanceEnded
)

var outcomeNames = [...]string{"", "clean", "deadline", "proxy_died", "app_died", "finished_by_operator", "aborted", "watchdog", "container_restart", "maintenance"}

// String returns the word used in the verdict line and in metrics.
func (o Outcome) String() string { return outcomeNames[o] }

// Outcomes returns every outcome a drain can end with.
func Outcomes() []Outcome {
	all := make([]Outcome, 0, len(outcomeNames)-1)
	for i := range len(outcomeNames) - 1 {
		all = append(all, Outcome(i+1))
	}
	return all
}

// ExitCode is the process exit status that belongs to the outcome.
func (o Outcome) ExitCode() int {
	switch o {
	case Deadline:
		return 2
	case FinishedByOperator:
		return 3
	case ProxyDied:
		return 4
	case Watchdog:
		return 5
	case AppDied:
		return 6
	case None, Clean, Aborted, ContainerRestart, MaintenanceEnded:
		return 0
	}
	return 0
}

// Never is a wake time that does not come.
const Never = time.Duration(1<<63 - 1)
