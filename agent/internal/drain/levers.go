package drain

import "time"

// pullLevers chooses how Envoy is told to drain. What cannot be undone needs a fact that nobody can forge; a gradual strategy
// with a window longer than what is left would tell almost nobody in time, so the reversible lever joins it.
func (s *State) pullLevers(p *Policy) {
	if p.AppDrain {
		s.want(TellApp)
	}
	if !p.ProxyAdmin {
		return
	}
	final := s.Authentic && !s.Lone && s.Facts.Known
	if final {
		s.want(DrainInbound)
		if s.Facts.Handover {
			s.want(HandOver)
		}
	}
	left := s.T0 + p.Budget().Stop - s.Now
	if !final || s.Facts.Gradual && s.Facts.DrainTime > min(left, 10*time.Second) {
		s.want(FailHealth)
	}
}

func (s *State) want(a Actions) {
	if a&PassHealth != 0 {
		s.Want &^= FailHealth
		s.Done &^= FailHealth
	}
	if a&FailHealth != 0 {
		s.Want &^= PassHealth
		s.Done &^= PassHealth
	}
	s.Want |= a
}

// undo takes back what can be taken back.
func (s *State) undo() {
	if (s.Want|s.Asked|s.Done)&FailHealth != 0 && s.Wanted == 0 {
		s.want(PassHealth)
	}
	s.Want &^= TellApp | Quit | DrainInbound | HandOver
	for id := range s.Hooks {
		s.Hooks[id].Told = s.told(ID(id))
	}
	s.Done &^= TellApp
	s.HandAt = 0
}

// handoverWithin bounds how long the answer of the proxy's hook waits for the proxy's owner to take over.
const handoverWithin = 500 * time.Millisecond

// handingOver reports whether the proxy's owner must hear of the drain before the proxy's hook is answered: with that answer it
// gets SIGTERM, closes the port where it could have been told, and begins a timer of its own. What cannot be undone waits for a
// proof even here; a failure, or half a second, is enough to go on without.
func (s *State) handingOver(p *Policy) bool {
	proxy := p.Proxy()
	b := p.Budget()
	switch {
	case proxy == Nobody || p.Observe || !p.ProxyAdmin || !s.Facts.Handover || !s.Hooks[proxy].Held || s.gone(proxy):
		return false
	case s.Done&HandOver != 0 || s.Failed&HandOver != 0 || s.Hard != 0 || s.Now >= s.T0+b.Hard || !s.proved(p):
		return false
	case s.HandAt == 0:
		s.HandAt = s.Now
		s.want(HandOver)
	}
	return s.Now < s.HandAt+scaled(handoverWithin, b.Scale)
}

// order asks for every action that is wanted and neither under way nor in force; what failed rests first. Without Envoy's admin only the app can be told.
func (s *State) order(p *Policy, d *Decision) {
	switch {
	case p.Observe:
		s.Want = 0 // the one place where observe mode says no
	case !p.ProxyAdmin:
		s.Want &= TellApp
	}
	d.Do = s.Want &^ s.Asked &^ s.Done
	if s.Now < s.RetryAt {
		d.Do &^= s.Failed
	}
	if s.LetGo {
		d.Do &^= TellApp // SIGTERM tells it: a port that closes now closes for that
	}
	if s.Wanted == 0 && s.Phase < Draining {
		d.Do &^= FailHealth // a maintenance wanted it, and no longer does: not tried again, and undone where it may have worked
	}
	if s.Wanted != 0 {
		d.Do &^= PassHealth // somebody wants it again
	}
	s.Asked |= d.Do
	if d.Do&TellApp != 0 {
		s.ToldAt = s.Now
	}
}

func (s *State) acted(in Input) {
	s.Asked &^= in.Action
	if !in.OK {
		s.Failed |= in.Action
		s.RetryAt = s.Now + retryAfter
		return
	}
	s.Failed &^= in.Action
	switch in.Action {
	case PassHealth:
		s.Want &^= PassHealth
		s.Done &^= FailHealth
	case FailHealth:
		s.Done = s.Done&^PassHealth | FailHealth
	default:
		s.Done |= in.Action
	}
}
