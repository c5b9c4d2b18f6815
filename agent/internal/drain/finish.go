package drain

import "time"

// finish answers whatever is still held. The verdict waits for a proof that this was a pod stop.
func (s *State) finish(p *Policy, why Why, d *Decision) {
	if !p.Observe {
		s.answer(p, d, s.Held())
	}
	if s.proved(p) && !s.watching(p) && s.atWork(p) == Nobody {
		s.concludeStop(p, why, d)
		return
	}
	s.enter(Finished, why, d)
}

// proved reports whether something that no stranger can fake says that the pod is being stopped: SIGTERM or the token, or a
// container that was up and has closed its listener. An app that was told to drain may have closed it for that: no proof.
func (s *State) proved(p *Policy) bool {
	if s.Authentic && !s.Lone || s.Sigterm {
		return true
	}
	for i := range p.Containers {
		h := &s.Hooks[i]
		if s.told(ID(i)) && ID(i) != p.Proxy() {
			continue
		}
		if s.called(ID(i)) && h.SeenUp && (s.gone(ID(i)) || h.Live == Leaving && h.LiveAt >= s.T0) {
			return true
		}
	}
	return false
}

// concludeStop ends a stop that is proved: only now may Envoy be told to quit, which nobody can undo.
func (s *State) concludeStop(p *Policy, why Why, d *Decision) {
	switch {
	case s.Ending != Clean:
		s.Earlier = None
	case s.Hard != 0:
		s.Ending, s.Earlier = Deadline, None
	case s.Earlier != None:
		s.Ending = s.Earlier
	}
	if who := s.unwatched(p); who != Nobody && s.Sigterm && s.SigtermAt >= s.T0+p.Grace-lastSecond { // kubelet has killed it
		s.notEnded(Why{Code: StageCapped, Who: who, For: s.SigtermAt - s.Hooks[who].AnsweredAt})
	} else if s.atWork(p) != Nobody {
		s.notEnded(Why{Code: EndUnseen, Who: who, For: s.Now - s.Hooks[who].AnsweredAt})
	}
	if p.QuitProxy {
		s.want(Quit)
	}
	s.conclude(p, s.Ending, why, d)
}

// conclude ends the drain: how, is decided. What is left is in end.
func (s *State) conclude(p *Policy, out Outcome, why Why, d *Decision) {
	s.answer(p, d, s.Held())
	switch {
	case out == ContainerRestart:
		s.undo() // a maintenance that nobody wants any more
	case p.ExitWith != 0:
		s.want(Quit)
	}
	s.Ending, s.EndedBy, s.Over = out, why, true
	s.enter(Finished, why, d)
}

// quitWithin bounds how long the verdict waits for the last actions.
const quitWithin = time.Second

// end writes the one verdict as soon as nothing is being done any more, and then leaves the last word to kubelet, which sends
// SIGTERM once our own hook is answered. A container that ends in that very moment makes containerd fail its stop ("ttrpc:
// closed"), and kubelet then keeps a proxy that stands before us waiting until the grace period is over (seen with containerd
// 1.6.20, in one stop of 42). A pod that nobody stops sends no SIGTERM.
func (s *State) end(p *Policy, d *Decision) {
	if !s.Said && (s.Asked == 0 || s.Now >= s.Since+quitWithin) {
		s.Said = true
		d.Why = s.EndedBy
		if s.EndedBy.Code != AlreadyTold {
			d.Verdict = s.Ending
		}
	}
	d.Exit = s.Said && (s.Sigterm || s.T0 == 0 || s.Now >= s.Since+p.AbortAfter)
}

// finished waits for the proof, and undoes everything when none comes.
func (s *State) finished(p *Policy, d *Decision) {
	s.outlived(p)
	switch {
	case s.calledAgain(p, d):
	case s.watching(p):
		d.Waiting = Why{Code: Observing}
	case s.atWork(p) != Nobody && s.Now < s.abortAt(p):
		d.Waiting = Why{Code: WaitingForEnd, Who: s.atWork(p)}
	case s.proved(p):
		s.concludeStop(p, Why{Code: AllStagesOver}, d)
	case s.Now >= s.abortAt(p):
		s.Earlier = None // nobody was stopped in that one either
		s.undo()
		d.Verdict = Aborted
		s.rest(Why{Code: NeverSignalled, For: p.AbortAfter}, d)
	default:
		d.Waiting = Why{Code: WaitingForSignal}
	}
}

// abortAt is when the wait for a proof ends. Where a container has outlived its share, kubelet sends a sidecar no SIGTERM before it has
// killed that container, at the end of the grace period.
func (s *State) abortAt(p *Policy) time.Duration {
	at := s.Since + p.AbortAfter
	if p.Observe || s.Alive.Code != NoReason || s.atWork(p) != Nobody {
		at = max(at, s.T0+p.Grace+p.AbortAfter)
	}
	return at
}

// unwatched returns a worker that was let go and whose end nobody sees: a native sidecar gets SIGTERM once the regular containers have
// ended, so kubelet's word says it. Nobody: there is none.
func (s *State) unwatched(p *Policy) ID {
	return p.find(func(c *Container) bool {
		h := &s.Hooks[p.Find(c.Name)]
		return c.Worker && c.Outlives && h.Released && !p.Observe
	})
}

// atWork returns such a worker until kubelet has spoken.
func (s *State) atWork(p *Policy) ID {
	if s.Sigterm || s.Hard != 0 {
		return Nobody
	}
	return s.unwatched(p)
}

// calledAgain handles the call of a hook that was answered already, or that comes when all are over. Once the stop is proved the answer stands. Before that it is
// a new fact: the first calls may have been anybody's. The hook of a container that has ended is none: it is answered at once.
func (s *State) calledAgain(p *Policy, d *Decision) bool {
	if p.Observe {
		return false // hooks are held there for as long as they sleep today
	}
	var again Set
	for id := ID(0); id <= Stranger; id++ {
		if h := &s.Hooks[id]; h.Held && !s.dead(p, id) && (h.Released || s.Phase == Finished) {
			again = again.With(id)
		}
	}
	if again == 0 {
		return false
	}
	if s.proved(p) || s.Hard != 0 {
		s.answer(p, d, again)
		return false
	}
	s.takeBack(lowest(again), d)
	return true
}

// watching reports whether, in observe mode, some container still sleeps or still stops: what is lost meanwhile is the report.
func (s *State) watching(p *Policy) bool {
	if !p.Observe || s.Hard != 0 || s.Now >= s.T0+p.Budget().Hard {
		return false
	}
	for i := range p.Containers {
		id, c := ID(i), &p.Containers[i]
		if !c.Agent && s.called(id) && (s.Hooks[id].Held || !c.Outlives && !s.gone(id)) {
			return true
		}
	}
	return false
}

// answerSleepers answers the hooks whose usual sleep is over. Our own waits for the others: today it does not exist.
func (s *State) answerSleepers(p *Policy, d *Decision) {
	for id := ID(0); id <= Stranger; id++ {
		h := &s.Hooks[id]
		if h.Held && (s.Now >= h.Called+p.sleep(id) || s.T0 != 0 && s.Now >= s.T0+p.Budget().Hard) {
			s.answer(p, d, Set(0).With(id))
		}
	}
}

// sleep is how long a hook is held in observe mode, at most.
func (p *Policy) sleep(id ID) time.Duration {
	hard := p.Budget().Hard
	switch {
	case int(id) >= len(p.Containers):
		return 0
	case p.Containers[id].Agent:
		return hard
	}
	return min(p.Containers[id].Sleep, hard)
}

// outlived notes, in observe mode, who did the work and is still there when there is no more time to watch: kubelet kills it.
func (s *State) outlived(p *Policy) {
	if !p.Observe || s.Now < s.T0+p.Budget().Hard || s.Alive.Code != NoReason {
		return
	}
	for i := range p.Containers {
		if id, c := ID(i), &p.Containers[i]; !c.Agent && !c.Outlives && s.called(id) && !s.gone(id) {
			s.stayedAlive(p, id, p.Budget().Hard)
		}
	}
}
