package drain

import "time"

// finish answers whatever is still held. The verdict waits for a proof that this was a pod stop.
func (s *State) finish(p *Policy, why Why, d *Decision) {
	if !p.Observe {
		s.answer(d, s.Held())
	}
	if s.proved(p) && !s.watching(p) {
		s.concludeStop(p, why, d)
		return
	}
	s.enter(Finished, why, d)
}

// proved reports whether something that no stranger can fake says that the pod is being stopped: SIGTERM or the token, or a
// container that was up and has closed its listener.
func (s *State) proved(p *Policy) bool {
	if s.Authentic && !s.Lone || s.Sigterm {
		return true
	}
	for i := range p.Containers {
		h := &s.Hooks[i]
		if s.called(ID(i)) && h.SeenUp && (s.gone(ID(i)) || h.Live == Leaving && h.LiveAt >= s.T0) {
			return true
		}
	}
	return false
}

// concludeStop ends a stop that is proved: only now may Envoy be told to quit, which nobody can undo.
func (s *State) concludeStop(p *Policy, why Why, d *Decision) {
	if p.QuitProxy && !p.Observe {
		s.want(Quit)
	}
	s.conclude(p, s.Ending, why, d)
}

// conclude ends the drain: how, is decided. What is left is in end.
func (s *State) conclude(p *Policy, out Outcome, why Why, d *Decision) {
	s.answer(d, s.Held())
	if p.ExitWith != Nobody && !p.Observe && out != ContainerRestart {
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
		d.Verdict, d.Why = s.Ending, s.EndedBy
	}
	d.Exit = s.Said && (s.Sigterm || s.T0 == 0 || s.Now >= s.Since+p.AbortAfter)
}

// finished waits for the proof, and undoes everything when none comes.
func (s *State) finished(p *Policy, d *Decision) {
	switch {
	case s.calledAgain(p, d):
	case s.watching(p):
		d.Waiting = Why{Code: Observing}
	case s.proved(p):
		s.concludeStop(p, Why{Code: AllStagesOver}, d)
	case s.Now >= s.Since+p.AbortAfter:
		s.undo()
		d.Verdict = Aborted
		s.rest(Why{Code: NeverSignalled, For: p.AbortAfter}, d)
	default:
		d.Waiting = Why{Code: WaitingForSignal}
	}
}

// calledAgain handles the call of a hook that was answered already, or that comes when all are over. Once the stop is proved the answer stands. Before that it is
// a new fact: the first calls may have been anybody's.
func (s *State) calledAgain(p *Policy, d *Decision) bool {
	if p.Observe {
		return false // hooks are held there for as long as they sleep today
	}
	var again Set
	for id := ID(0); id <= Stranger; id++ {
		if h := &s.Hooks[id]; h.Held && (h.Released || s.Phase == Finished) {
			again = again.With(id)
		}
	}
	if again == 0 {
		return false
	}
	if s.Authentic && !s.Lone || s.Hard != 0 {
		s.answer(d, again)
		return false
	}
	s.undo()
	d.Verdict = Aborted
	s.rest(Why{Code: CalledAgain, Who: lowest(again)}, d)
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
			s.answer(d, Set(0).With(id))
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
