package simulation

import (
	"context"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// job is a pod whose app ends by itself: the agent has Envoy quit and ends with a verdict. Kubelet, whose look at the containers is up to
// a second old, may start the agent, its first sidecar, again, and stops it when it sees that the pod is over.
func (p *pod) job(ctx context.Context) {
	chance := newDice(p.sc.Seed, "after the job", 0)
	first := p.agent()
	p.with(func() { p.endApp("itself") })
	<-first.exited
	p.with(func() {
		if p.envoy.up {
			p.breaks("the agent of a job ended and left Envoy running")
		}
	})
	if chance.chance(0.2) {
		return // it saw all at once
	}
	<-time.After(chance.between(10*ms, sec))
	p.startAgent()
	<-time.After(chance.between(10*ms, 2*sec))
	p.with(func() { p.sigterm("agent") })
	<-p.agent().exited
}

// judgeJob: the end of a job is one drain with one verdict, whatever becomes of its agents after it.
func (p *pod) judgeJob(say sayer) {
	if len(p.verdicts) != 1 || p.verdicts[0].Outcome != "clean" {
		say("the verdicts of a job whose app ended: %v, want one, clean", p.outcomes())
	}
	if !p.sc.Observe && p.quitAt < p.app.ended {
		say("Envoy was told to quit at %v, the job ended at %v", p.quitAt, p.app.ended)
	}
}

func (p *pod) outcomes() (all []string) {
	for _, v := range p.verdicts {
		all = append(all, v.Outcome)
	}
	return all
}

// asJob makes the scenario one of a job: nobody sends it anything.
func (sc *scenario) asJob() {
	sc.Job, sc.Shape, sc.AppManner, sc.Before, sc.Observe = true, native, atOnce, "", false
	sc.Clients, sc.Faults, sc.AppDrain, sc.DrainCloses, sc.Handover = nil, nil, false, false, false
}

func (sc *scenario) exitWith() drain.Set {
	if sc.Job {
		return 0b001
	}
	return 0
}
