package drain

import (
	"fmt"
	"strings"
	"time"
)

// Text tells the reason in words, with the names of the policy's containers.
func (w Why) Text(p *Policy) string {
	who, d := p.Name(w.Who), w.For.Round(time.Millisecond)
	switch w.Code {
	case NoReason:
		return ""
	case OneFact:
		return "hook of " + who + " called: one container, or the pod?"
	case OwnSignal:
		return "SIGTERM alone: the agent is being restarted"
	case SecondFact:
		return "facts of two containers: the pod is terminating"
	case OnlyHook:
		return "the only hook was called: taken for a pod stop, reversible levers only"
	case OneContainer:
		return "no second fact: only " + who + " is being stopped"
	case RestartIdle:
		return who + " has nothing in flight"
	case RestartMaxOver:
		return fmt.Sprintf("%s was held for the whole restart-max of %v", who, d)
	case RestartGone:
		return who + " is already gone"
	case Slept:
		return "observe mode: its usual sleep is over"
	case Observing:
		return "observe mode: watching what the usual sleeps do"
	case AskedToDrain:
		return "an operator asked for a drain"
	case AskedToUndrain:
		return "an operator ended the drain"
	case AskedToFinish:
		return "an operator asked to finish now"
	case NoNewConnections:
		return fmt.Sprintf("no new connection for %v", d)
	case AnnounceMaxOver:
		return fmt.Sprintf("announced for the whole announce-max of %v", d)
	case InMaintenance:
		return "already drained by an operator"
	case ProxyBusy:
		return fmt.Sprintf("proxy has %d in flight", w.N)
	case ProxyUnknown:
		return "proxy cannot be read"
	case BytesUnderWay:
		return fmt.Sprintf("%d bytes are still on their way to clients", w.N)
	case BytesUnknown:
		return "bytes on their way to clients cannot be counted: waiting for quiet-max"
	case AppBusy:
		return fmt.Sprintf("%s has %d in flight", who, w.N)
	case AppUnknown:
		return who + " cannot be read"
	case Propagating:
		return fmt.Sprintf("peers may not know yet: propagation of %v", d)
	case NewConnectionsCome:
		return fmt.Sprintf("new connections still come: %v of silence asked for", d)
	case RequestAwaited:
		return fmt.Sprintf("a new connection may yet bring its request: waiting for %v", d)
	case ArrivalsUnknown:
		return "arrivals cannot be read: waiting for quiet-max"
	case ScoreHigh:
		return fmt.Sprintf("stopping score too high with %d connections open", w.N)
	case SettledZero:
		return p.nothing() + ", nobody sends"
	case QuietMaxOver:
		text := fmt.Sprintf("%s; quiet-max of %v is over", p.nothing(), d)
		if w.N > 0 {
			text += fmt.Sprintf("; requests go on at %.2g a second as before the stop: if these are probes and scrapes through Envoy, say --background=%.2g", float64(w.N)/1000, p.Background+float64(w.N)/1000)
		}
		return text
	case SettleTime:
		if p.blind() {
			return p.nothing() + "; the timers are over"
		}
		return fmt.Sprintf("zero held for the settle time of %v", d)
	case SettledUncounted:
		return fmt.Sprintf("zero held for the settle time of %v; bytes on their way to clients could not be counted", d)
	case DrainMaxOver:
		return fmt.Sprintf("drain-max of %v is over", d)
	case BudgetOver:
		return fmt.Sprintf("grace period budget is over at %v", d)
	case GraceOver:
		return fmt.Sprintf("SIGTERM while our hook was held: grace was %v, configured %v", d.Round(100*time.Millisecond), p.Grace)
	case ProxyGone:
		return "proxy died"
	case AppGone:
		return who + " died"
	case StageGone:
		return who + " is gone"
	case StageCapped:
		return fmt.Sprintf("%s did not end within its share of %v", who, d)
	case EndUnseen:
		return fmt.Sprintf("the end of %s was not seen within %v of its answer", who, d)
	case StageUncalled:
		return "hook of " + who + " was never called"
	case StageOutlives:
		return who + " ends after the agent: not waited for"
	case WaitingForEnd:
		return "waiting for the end of " + who
	case LastBytes:
		return fmt.Sprintf("proxy still has %d in flight", w.N)
	case HandingOver:
		return "telling the owner of " + who + " before it gets SIGTERM"
	case AllStagesOver:
		return "all stages are over"
	case WaitingForSignal:
		return "all hooks answered, nothing proves a pod stop: waiting for SIGTERM"
	case NeverSignalled:
		return fmt.Sprintf("all hooks answered and no SIGTERM within %v: not a pod stop", d)
	case CalledAgain:
		return "hook of " + who + " was called again after its answer: a new fact"
	case Ended:
		return p.names(p.ExitWith) + " ended"
	case AlreadyTold:
		return "the pod's last verdict was written before this agent was started"
	}
	return ""
}

// nothing is how zero is called where somebody counts, and how its place is called where nobody does.
func (p *Policy) nothing() string {
	if p.blind() {
		return "nobody counts what is in flight"
	}
	return "nothing in flight"
}

// names lists containers in words.
func (p *Policy) names(set Set) string {
	var names []string
	for i := range p.Containers {
		if set.Has(ID(i)) {
			names = append(names, p.Containers[i].Name)
		}
	}
	return strings.Join(names, " and ")
}

func (p *Policy) blind() bool { return !p.ProxyAdmin && len(p.Sources) == 0 }
