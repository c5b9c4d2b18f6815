package drain

import "math/bits"

// serving waits for a first fact, and for the end of the container whose end is ours.
func (s *State) serving(p *Policy, d *Decision) {
	switch {
	case s.allEnded(p):
		s.conclude(p, Clean, Why{Code: Ended}, d)
	case s.facts(p) != 0:
		s.confirm(d)
	case s.Wanted != 0:
		s.want(FailHealth)
		s.enter(Maintenance, Why{Code: AskedToDrain}, d)
	default:
		s.lookNowAndThen(p, d)
	}
}

func (s *State) maintenance(p *Policy, d *Decision) {
	switch {
	case s.facts(p) != 0:
		s.confirm(d)
	case s.allEnded(p):
		s.conclude(p, Clean, Why{Code: Ended}, d)
	case s.Wanted == 0:
		s.undo()
		d.Verdict = MaintenanceEnded
		s.rest(Why{Code: AskedToUndrain}, d)
	default:
		s.lookNowAndThen(p, d)
	}
}

// allEnded reports whether every container with whose end we end has ended.
func (s *State) allEnded(p *Policy) bool {
	for i := range p.Containers {
		if p.ExitWith.Has(ID(i)) && !s.died(p, ID(i)) {
			return false
		}
	}
	return p.ExitWith != 0
}

func (s *State) lookNowAndThen(p *Policy, d *Decision) {
	if s.Now >= s.Idle.NextAt {
		d.Sample = true
		s.Idle.next(p, s.Now)
	}
}

func (s *State) confirm(d *Decision) {
	s.T0 = s.firstFact()
	why := Why{Code: OwnSignal}
	if held := s.Held(); held != 0 {
		why = Why{Code: OneFact, Who: lowest(held)}
	}
	s.enter(Confirming, why, d)
}

// confirming holds the hook and does nothing else: a fact of a second container makes it a pod stop.
func (s *State) confirming(p *Policy, d *Decision) {
	held := s.Held()
	switch {
	case bits.OnesCount32(uint32(s.facts(p))) >= 2:
		s.beginStop(p, Why{Code: SecondFact}, d)
	case s.Finish && held != 0:
		s.letGo(p, FinishedByOperator, Why{Code: AskedToFinish}, d)
	case s.Now < s.T0+p.confirmWindow() && s.Hard == 0:
		d.Waiting = Why{Code: OneFact, Who: lowest(held)}
	case s.Sigterm && s.Hard == 0 && s.Now < s.T0+p.lateHooks():
		d.Waiting = Why{Code: OwnSignal}
	case s.Sigterm && s.Past:
		s.conclude(p, ContainerRestart, Why{Code: AlreadyTold}, d)
	case s.Sigterm:
		s.conclude(p, ContainerRestart, Why{Code: OwnSignal}, d)
	case bits.OnesCount32(uint32(p.Hooks)) == 1 && s.facts(p) == p.Hooks:
		s.Lone = true
		s.beginStop(p, Why{Code: OnlyHook}, d)
	default:
		s.enter(Holding, Why{Code: OneContainer, Who: lowest(s.facts(p))}, d)
	}
}

// holding keeps one container's stop until what it has in flight is done, or until it would get in the way of a pod's deletion.
func (s *State) holding(p *Policy, d *Decision) {
	who := lowest(s.Held())
	switch {
	case bits.OnesCount32(uint32(s.facts(p))) >= 2:
		s.beginStop(p, Why{Code: SecondFact}, d)
	case p.Observe:
		s.observeRestart(p, d)
	case s.Finish:
		s.letGo(p, FinishedByOperator, Why{Code: AskedToFinish}, d)
	case s.gone(who):
		s.letGo(p, ContainerRestart, Why{Code: RestartGone, Who: who}, d)
	case s.idle(p, who):
		s.letGo(p, ContainerRestart, Why{Code: RestartIdle, Who: who}, d)
	case s.Now >= s.Hooks[who].Called+min(p.RestartMax, p.Budget().Hard):
		s.letGo(p, ContainerRestart, Why{Code: RestartMaxOver, Who: who, For: p.RestartMax}, d)
	default:
		d.Waiting = Why{Code: OneContainer, Who: who}
	}
}

// observeRestart waits until the container's sleep has let it go.
func (s *State) observeRestart(p *Policy, d *Decision) {
	if held := s.Held(); held == 0 || held == Set(0).With(p.Agent()) {
		s.letGo(p, ContainerRestart, Why{Code: Slept}, d)
	} else {
		d.Waiting = Why{Code: OneContainer, Who: lowest(s.Held())}
	}
}

// letGo answers what is held and goes back to where the pod was: nothing was changed.
func (s *State) letGo(p *Policy, out Outcome, why Why, d *Decision) {
	s.answer(p, d, s.Held())
	d.Verdict = out
	s.rest(why, d)
}

// rest goes back to serving, or to maintenance where an operator wants it, and forgets the stop that was none.
func (s *State) rest(why Why, d *Decision) {
	for i := range s.Hooks {
		h := &s.Hooks[i]
		h.Released, h.Would, h.WouldAt = false, false, 0
	}
	s.T0, s.Trigger, s.Draining0, s.Hard, s.TakenAt = 0, 0, 0, 0, 0
	s.Authentic, s.Lone, s.Finish, s.LetGo = s.Sigterm, false, false, false
	s.Stage, s.StageAt, s.StageEnd, s.Ending, s.Alive = 0, 0, 0, None, Why{}
	s.Load = Load{}
	s.Conns.restart()
	s.Peers.restart()
	s.Requests.restart()
	switch {
	case s.Wanted != 0:
		s.want(FailHealth)
		s.enter(Maintenance, why, d)
	case (s.Want|s.Done)&FailHealth != 0: // nobody wants it any more: to be undone there
		s.enter(Maintenance, why, d)
	default:
		s.enter(Serving, why, d)
	}
}

func lowest(set Set) ID {
	if set == 0 {
		return Nobody
	}
	return ID(bits.TrailingZeros32(uint32(set)))
}
