package drain

import "time"

// retryAfter is how long an action that failed rests before it is asked for again.
const retryAfter = 500 * time.Millisecond

// lastSecond is what remains when SIGTERM meets our own unanswered hook: kubelet kills about two seconds after it.
const lastSecond = time.Second

// Step takes one input and decides. It changes the phase at most once; when there is more to do at once, the decision's wake
// time is the input's own time. It reads no clock, does no I/O, keeps nothing and allocates nothing.
func Step(p *Policy, s State, in Input) (State, Decision) {
	s.Now = max(s.Now, in.At)
	d := Decision{From: s.Phase}
	s.take(p, in)
	if s.Over {
		s.answer(p, &d, s.Held())
	} else {
		s.decide(p, &d)
		if p.Observe {
			s.answerSleepers(p, &d)
		} else {
			s.answerWorkers(p, &d)
			s.answerDead(p, &d)
		}
	}
	if !s.Said {
		s.order(p, &d)
	}
	if s.Over {
		s.end(p, &d)
	}
	d.To = s.Phase
	d.Looks = s.looks(p, d.Waiting)
	d.Wake = s.wake(p, &d)
	return s, d
}

// take writes down what the input says. It decides nothing.
func (s *State) take(p *Policy, in Input) {
	switch in.Kind {
	case Tick:
	case HookCalled:
		s.hookCalled(in)
	case Terminated:
		s.terminated(p)
	case ProxySampled:
		s.Proxy = in.Proxy
		s.seeOwnBytes(in.Proxy.Bytes)
		s.Conns.see(p, s, in.Proxy.NewConns)
		s.seeRequests(p, in.Proxy.Requests)
		s.takeLoad(p)
	case SocketsSampled:
		s.seeSockets(p, in.Sockets)
		if p.Direct() {
			s.seeRequests(p, in.Sockets.Data)
		}
		s.takeLoad(p)
	case AppSampled:
		if in.Source < MaxSources {
			s.Sources[in.Source] = in.InFlight
			s.Closed &^= 1 << in.Source
			if in.Closed {
				s.Closed |= 1 << in.Source
			}
			if in.InFlight.Known {
				s.Busy &^= 1 << in.Source
				if in.InFlight.N != 0 {
					s.Busy |= 1 << in.Source
				}
			}
		}
	case Seen:
		s.seen(p, in)
	case Described:
		s.Facts, s.FactsAt = in.Facts, s.Now
		if in.Facts.Replaced {
			s.Done &^= FailHealth | DrainInbound | HandOver
			s.Failed &^= HandOver
		}
	case Acted:
		s.acted(in)
	case AskedDrain:
		s.Wanted = s.Wanted.With(in.By)
	case AskedUndrain:
		s.Wanted = s.Wanted.Without(in.By)
	case AskedFinish:
		s.Finish = s.Phase != Serving && s.Phase != Maintenance
	case Restored:
		s.restore(in.Journal)
	}
}

func (s *State) hookCalled(in Input) {
	h := &s.Hooks[min(in.Container, Stranger)]
	if !h.Held {
		h.Held, h.Called = true, s.Now
	}
	s.Authentic = s.Authentic || in.Authentic
}

// terminated takes our own SIGTERM. While our own hook is unanswered it means that kubelet's grace is over.
func (s *State) terminated(p *Policy) {
	if !s.Sigterm {
		s.Sigterm, s.SigtermAt = true, s.Now
	}
	s.Authentic, s.Lone = true, false
	if agent := p.Agent(); agent != Nobody && s.Hooks[agent].Held && s.Hard == 0 {
		s.Hard = s.Now + lastSecond
	}
}

func (s *State) seen(p *Policy, in Input) {
	if in.Container > Stranger {
		return
	}
	h := &s.Hooks[in.Container]
	if in.Live == Gone && (h.Live != Gone || h.GoneSince < s.T0) {
		h.GoneSince = in.At
	}
	h.Live, h.LiveAt = in.Live, in.At
	if in.Live == Up || in.Live == Leaving {
		h.SeenUp, h.UpAt = true, in.At
		if in.Looked > 0 {
			h.UpAt = in.Looked
		}
		if in.Live == Up {
			h.OpenAt = in.At
			h.Told = h.Told && s.Phase != Serving && s.Phase != Maintenance
		}
		s.Past = s.Past && (in.Container == p.Proxy() || in.Container == p.Agent())
	}
	if p.Observe && h.Released && in.Live >= Leaving {
		s.LetGo = true // now requests are lost; a proxy's hook may have been answered long before it is told to stop
	}
}

func (s *State) restore(j Journal) {
	s.Wanted |= j.Wanted
	s.Past = s.Past || j.Ended
	if j.HealthFailed && s.Wanted == 0 {
		s.want(PassHealth)
	}
}

// decide makes at most one change of phase.
func (s *State) decide(p *Policy, d *Decision) {
	switch s.Phase {
	case Serving:
		s.serving(p, d)
	case Maintenance:
		s.maintenance(p, d)
	case Confirming:
		s.confirming(p, d)
	case Holding:
		s.holding(p, d)
	case Announcing:
		s.announcing(p, d)
	case Draining:
		s.draining(p, d)
	case Settling:
		s.settling(p, d)
	case Stopping:
		s.stopping(p, d)
	case Finished:
		s.finished(p, d)
	}
}

func (s *State) enter(to Phase, why Why, d *Decision) {
	s.Phase, s.Since, d.Why = to, s.Now, why
}

// answer answers the hooks for real.
func (s *State) answer(p *Policy, d *Decision, who Set) {
	for id := ID(0); id <= Stranger; id++ {
		if h := &s.Hooks[id]; who.Has(id) && h.Held {
			if !h.Released {
				h.AnsweredAt, h.Open = s.Now, s.stillOpen(h)
				switch { // who is gone is not let go
				case h.Live != Gone:
					h.LetGoAt = s.Now
				case s.mayLive(p, id): // its port is closed, and no more is known: it ends now at the earliest
					h.LetGoAt, h.GoneSince = s.Now, s.Now
				}
			}
			h.Held, h.Released = false, true
			d.Release = d.Release.With(id)
		}
	}
}

// answerDead answers the hooks of containers that have ended: nobody is left to be held.
func (s *State) answerDead(p *Policy, d *Decision) {
	if !s.Phase.Terminating() {
		return
	}
	for id := ID(0); id <= Stranger; id++ {
		if s.Hooks[id].Held && s.dead(p, id) {
			if d.Why.Code == NoReason { // else the change of phase is the reason
				d.Why = Why{Code: StageGone, Who: id}
			}
			s.answer(p, d, Set(0).With(id))
		}
	}
}

// answerWorkers answers the hooks of containers that pull their work as soon as the pod stop is sure: nothing but SIGTERM tells them to
// take no more of it.
func (s *State) answerWorkers(p *Policy, d *Decision) {
	if !s.Phase.Terminating() {
		return
	}
	for i := range p.Containers {
		if p.Containers[i].Worker && s.Hooks[i].Held && s.Now >= s.T0+p.confirmWindow() {
			s.answer(p, d, Set(0).With(ID(i)))
		}
	}
}
