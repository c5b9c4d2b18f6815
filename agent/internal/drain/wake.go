package drain

import "time"

// wake is when Step must be called again even if nothing happens: at once after a change of phase, else at the next time at which
// a rule could decide otherwise.
func (s *State) wake(p *Policy, d *Decision) time.Duration {
	switch {
	case d.Exit:
		return Never
	case s.Said:
		return s.Since + p.AbortAfter
	case s.Over:
		return s.Since + quitWithin
	}
	if d.From != s.Phase || d.Release != 0 || d.more {
		return s.Now
	}
	next := Never
	at := func(t time.Duration) {
		if t > s.Now {
			next = min(next, t)
		}
	}
	if s.Want&^s.Asked&^s.Done != 0 {
		at(s.RetryAt)
	}
	b := p.Budget()
	switch s.Phase {
	case Serving, Maintenance:
		at(s.Idle.NextAt)
	case Confirming:
		at(s.T0 + p.confirmWindow())
		at(s.T0 + p.lateHooks())
	case Holding:
		at(s.firstFact() + min(p.RestartMax, b.Hard))
	case Announcing:
		at(s.Since + p.AnnounceMax)
	case Draining:
		at(s.T0 + p.Propagation)
		at(s.silenceEnd(p))
	case Settling:
		at(s.Since + p.Settle)
	case Stopping:
		at(s.StageAt + scaled(p.share(s.Stage), b.Scale))
		at(s.T0 + b.Hard - scaled(p.sharesAfter(s.Stage), b.Scale))
		at(s.StageEnd + time.Second)
		at(s.HandAt + scaled(handoverWithin, b.Scale))
	case Finished:
		at(s.abortAt(p))
	}
	if s.Phase >= Announcing && s.Phase <= Settling {
		at(s.T0 + b.Stop)
		if app := s.appDied(p); app != Nobody {
			at(s.Hooks[app].GoneSince + blameAfter)
		}
		if p.DrainMax > 0 && s.Draining0 > 0 {
			at(s.Draining0 + p.DrainMax)
		}
	}
	if s.Phase.Terminating() {
		at(s.T0 + b.Hard)
		at(s.T0 + min(p.ConfirmWindow, b.Hard)) // for workers
	}
	if p.Observe {
		for id := range s.Hooks {
			if h := &s.Hooks[id]; h.Held {
				at(h.Called + p.sleep(ID(id)))
			}
		}
	}
	return next
}
