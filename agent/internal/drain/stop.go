package drain

import (
	"slices"
	"time"
)

// beginStop starts the drain proper. A pod that an operator has drained already skips the announcement.
func (s *State) beginStop(p *Policy, why Why, d *Decision) {
	s.T0 = min(s.firstFact(), s.provedCall(p))
	s.Trigger = s.facts(p)
	s.Finish = false
	if s.T0 > s.EarlyT0+p.Grace+p.AbortAfter { // a pod that was really being stopped then is dead by now
		s.Earlier = None
	}
	if s.Wanted != 0 {
		s.beginDraining(p, Why{Code: InMaintenance}, d)
		return
	}
	s.enter(Announcing, why, d)
}

// provedCall is when our own hook came, where our own SIGTERM proves it: kubelet sends that after the answer, and its grace period began with
// the call, also where the hook was answered in a stop that was taken back since.
func (s *State) provedCall(p *Policy) time.Duration {
	agent := p.Agent()
	if !s.Sigterm || agent == Nobody {
		return Never
	}
	if own := s.Hooks[agent].Called; own > 0 && s.SigtermAt < own+p.Grace+p.AbortAfter {
		return own
	}
	return Never
}

// announcing keeps serving until peers have noticed. Starting to drain early costs reconnects, never requests.
func (s *State) announcing(p *Policy, d *Decision) {
	if s.urgent(p, d) {
		return
	}
	conns := s.newConns()
	switch {
	case conns != nil && conns.silence(s.T0) >= p.QuietMin:
		s.beginDraining(p, Why{Code: NoNewConnections, For: p.QuietMin}, d)
	case s.Now >= s.Since+p.AnnounceMax:
		s.beginDraining(p, Why{Code: AnnounceMaxOver, For: p.AnnounceMax}, d)
	default:
		d.Waiting = Why{Code: NewConnectionsCome, For: p.QuietMin}
	}
}

func (s *State) beginDraining(p *Policy, why Why, d *Decision) {
	s.Draining0 = s.Now
	s.pullLevers(p)
	s.enter(Draining, why, d)
}

// draining waits until nothing is in flight and nobody sends any more.
func (s *State) draining(p *Policy, d *Decision) {
	if s.urgent(p, d) {
		return
	}
	why, ok := s.done(p, 0)
	if !ok {
		d.Waiting = why
		return
	}
	s.enter(Settling, why, d)
	d.Sample = true // what is read rarely, because it is expensive, would not be read again in time
}

// settling proves that zero stays zero, with a reading of every source taken since.
func (s *State) settling(p *Policy, d *Decision) {
	if s.urgent(p, d) {
		return
	}
	why, still := s.done(p, 0)
	fresh, settled := s.done(p, s.Since)
	switch {
	case !still && why.Code == RequestAwaited: // nothing has come yet: zero goes on, and is not proved anew
		d.Waiting = why
	case !still:
		s.enter(Draining, why, d)
	case s.Now < s.Since+p.Settle:
		d.Waiting = Why{Code: SettleTime, For: p.Settle}
	case !settled:
		d.Waiting = fresh
	case s.appDied(p) != Nobody: // who died first is still in doubt: see urgent
		d.Waiting = Why{Code: SettleTime, For: p.Settle}
	case !s.bytesKnown(p):
		s.beginStopping(p, Clean, Why{Code: SettledUncounted, For: p.Settle}, d)
	case why.Code == QuietMaxOver && why.N > 0: // what held it may be probes, and has a flag
		s.beginStopping(p, Clean, why, d)
	default:
		s.beginStopping(p, Clean, Why{Code: SettleTime, For: p.Settle}, d)
	}
}

// urgent handles what ends the wait in every phase before stopping.
func (s *State) urgent(p *Policy, d *Decision) bool {
	b := p.Budget()
	if s.newestEnd(p) > s.EndAsked {
		d.Sample, s.EndAsked = true, s.Now
	}
	switch proxy := p.Proxy(); {
	case s.Finish:
		s.beginStopping(p, FinishedByOperator, Why{Code: AskedToFinish}, d)
	case s.Hard != 0:
		s.beginStopping(p, Deadline, Why{Code: GraceOver, For: s.Now - s.T0}, d)
	case s.died(p, proxy):
		s.beginStopping(p, ProxyDied, Why{Code: ProxyGone}, d)
	case s.appDied(p) != Nobody && !s.proxyInDoubt(p, s.appDied(p)):
		s.beginStopping(p, AppDied, Why{Code: AppGone, Who: s.appDied(p)}, d)
	case s.Now >= s.T0+b.Stop:
		s.beginStopping(p, Deadline, Why{Code: BudgetOver, For: b.Stop}, d)
	case p.DrainMax > 0 && s.Phase >= Draining && s.Now >= s.Draining0+p.DrainMax:
		s.beginStopping(p, Deadline, Why{Code: DrainMaxOver, For: p.DrainMax}, d)
	default:
		return false
	}
	return true
}

// appDied returns one of the containers that did the work, if none of those with a hook or a source is left.
func (s *State) appDied(p *Policy) ID {
	last := Nobody
	for i := range p.Containers {
		id, c := ID(i), &p.Containers[i]
		if c.Agent || c.Proxy || !p.Hooks.Has(id) && !p.counted(id) {
			continue
		}
		if !s.dead(p, id) {
			return Nobody
		}
		if s.died(p, id) {
			last = id
		}
	}
	return last
}

// blameAfter is how long the end of an app waits for a look at the proxy.
const blameAfter = 500 * time.Millisecond

// proxyInDoubt reports whether the proxy may have ended before this app: it was not seen to be there since. Who carries the hooks of
// others, as Istio's agent does, takes them along: kubelet then stops an app that only seems to have died.
func (s *State) proxyInDoubt(p *Policy, app ID) bool {
	proxy := p.Proxy()
	if proxy == Nobody || !s.Hooks[proxy].SeenUp {
		return false
	}
	ended := s.Hooks[app].GoneSince
	return s.Hooks[proxy].UpAt <= ended && s.Now < ended+blameAfter
}

// newestEnd is when a container other than the proxy was first seen gone although its hook is held, 0 when none was: the proxy, which
// may be read rarely, is to be looked at then.
func (s *State) newestEnd(p *Policy) (at time.Duration) {
	for i := range p.Containers {
		if h := &s.Hooks[i]; h.Held && h.SeenUp && h.Live == Gone && !p.Containers[i].Proxy && !p.Containers[i].Agent {
			at = max(at, h.GoneSince)
		}
	}
	return at
}

// workerDied reports whether a container whose work is counted ended before it was let go.
func (s *State) workerDied(p *Policy) bool {
	for _, who := range p.Sources {
		if s.died(p, who) {
			return true
		}
	}
	return false
}

func (p *Policy) counted(id ID) bool {
	return slices.Contains(p.Sources, id)
}

func (s *State) beginStopping(p *Policy, out Outcome, why Why, d *Decision) {
	if out == Clean && s.workerDied(p) {
		out = AppDied
	}
	s.Ending, s.EndingWhy, s.Stage, s.StageAt, s.StageEnd = out, why, 0, s.Now, 0
	s.enter(Stopping, why, d)
	s.release(p, d)
}

// takeBack gives a stop up that nothing proves, because a hook was called again. Who was let go in it may have been stopped all the same: if
// the next one is proved while the pod can still be alive, it ends no better.
func (s *State) takeBack(who ID, d *Decision) {
	if s.Ending > Clean {
		if s.EarlyT0 = s.T0; s.Earlier == None {
			s.Earlier, s.EarlyWhy = s.Ending, s.EndingWhy
		}
	}
	s.undo()
	d.Verdict = Aborted
	s.rest(Why{Code: CalledAgain, Who: who}, d)
	s.TakenAt = s.Now
}

// release answers the hooks of all stages that have begun. In observe mode it only says so.
func (s *State) release(p *Policy, d *Decision) {
	for id := ID(0); id <= Stranger; id++ {
		h := &s.Hooks[id]
		if stage := p.stage(id); stage < 0 || stage > s.Stage {
			continue
		}
		switch {
		case p.Observe && (h.Held || h.Released) && !h.Would:
			h.Would, h.WouldAt = true, s.Now
			d.Would = d.Would.With(id)
		case !p.Observe && h.Held && (id != p.Proxy() || !s.handingOver(p)):
			s.LetGo = true
			s.answer(p, d, Set(0).With(id))
		}
	}
}

// stopping lets the containers go, one stage after the other.
func (s *State) stopping(p *Policy, d *Decision) {
	if s.calledAgain(p, d) {
		return
	}
	s.release(p, d)
	why, over := s.stageOver(p)
	switch {
	case s.handing(p):
		d.Waiting = Why{Code: HandingOver, Who: p.Proxy()}
	case !over:
		d.Waiting = why
	case s.Stage+1 < p.Stages():
		s.Stage, s.StageAt, s.StageEnd = s.Stage+1, s.Now, 0
		s.release(p, d)
		d.Waiting, d.more = why, true
	default:
		s.finish(p, why, d)
	}
}

// handing reports whether the proxy's stage has begun and its owner is still to be told.
func (s *State) handing(p *Policy) bool {
	proxy := p.Proxy()
	return proxy != Nobody && p.stage(proxy) <= s.Stage && s.handingOver(p)
}

// stageOver reports whether the stage's containers are gone or have used up their share, and that Envoy has sent the last bytes
// of their answers.
func (s *State) stageOver(p *Policy) (Why, bool) {
	b := p.Budget()
	who, begun, share := s.stillThere(p)
	switch {
	case s.Hard != 0:
		return Why{Code: GraceOver, For: s.Now - s.T0}, true
	case s.Now >= s.T0+b.Hard:
		return Why{Code: BudgetOver, For: b.Hard}, true
	case who == Nobody && s.lastBytes(p):
		return Why{Code: LastBytes, N: s.Proxy.InFlight.N}, s.Now >= s.StageEnd+min(time.Second, scaled(p.share(s.Stage), b.Scale))
	case who == Nobody:
		return s.stageEnded(p), true
	case s.Now >= begun+share:
		s.stayedAlive(p, who, share)
		return Why{Code: StageCapped, Who: who, For: share}, true
	}
	return Why{Code: WaitingForEnd, Who: who}, false
}

// stayedAlive notes who did the work and is there, or may be, although its share is over: kubelet kills it. Envoy's end is not
// judged: kubelet may be waiting for a container that we do not know before it tells a sidecar.
func (s *State) stayedAlive(p *Policy, who ID, share time.Duration) {
	h := &s.Hooks[who]
	if who == p.Proxy() || h.Live != Up && h.Live != Leaving && !s.mayLive(p, who) {
		return
	}
	s.notEnded(Why{Code: StageCapped, Who: who, For: share})
}

// notEnded notes whom kubelet kills, or may have to: no stop is clean with that.
func (s *State) notEnded(who Why) {
	if s.Ending == Clean {
		s.Ending = Deadline
	}
	s.Alive = who
}

// stillThere returns the container that is waited for longest, of this stage, or of one before whose hook came only in this one; when its
// share began, and how long that is. It notes when there was none left.
func (s *State) stillThere(p *Policy) (who ID, begun, share time.Duration) {
	who = Nobody
	for i := range p.Containers {
		id, c, h := ID(i), &p.Containers[i], &s.Hooks[i]
		late := c.Stage < s.Stage && h.Released && h.AnsweredAt >= s.StageAt
		if c.Stage != s.Stage && !late || !s.called(id) || c.Outlives || s.gone(id) && !s.mayLive(p, id) || p.Observe {
			continue
		}
		from := s.StageAt
		if late {
			from = h.AnsweredAt
		}
		if its := s.share(p, id, from); who == Nobody || from+its > begun+share {
			who, begun, share = id, from, its
		}
	}
	if who == Nobody && s.StageEnd == 0 {
		s.StageEnd = s.Now
	}
	return who, begun, share
}

// share is how long a container has to end. A worker has all that the grace period leaves.
func (s *State) share(p *Policy, id ID, from time.Duration) time.Duration {
	b, c := p.Budget(), &p.Containers[id]
	share := scaled(p.share(c.Stage), b.Scale)
	if c.Worker {
		share = max(share, s.T0+b.Hard-from-scaled(p.sharesAfter(c.Stage), b.Scale))
	}
	return share
}

// stageEnded says why nobody of the stage is waited for.
func (s *State) stageEnded(p *Policy) Why {
	why := Why{Code: StageUncalled, Who: Nobody}
	for i := range p.Containers {
		id, c := ID(i), &p.Containers[i]
		switch {
		case c.Stage != s.Stage:
		case p.Observe:
			return Why{Code: Observing}
		case s.called(id) && !c.Outlives:
			return Why{Code: StageGone, Who: id}
		case s.called(id):
			why = Why{Code: StageOutlives, Who: id}
		case why.Who == Nobody:
			why.Who = id
		}
	}
	return why
}

// lastBytes reports whether the next stage would stop an Envoy that is still sending.
func (s *State) lastBytes(p *Policy) bool {
	proxy := p.Proxy()
	if proxy == Nobody || !p.ProxyAdmin || p.stage(proxy) != s.Stage+1 || s.gone(proxy) || p.Observe {
		return false
	}
	bytes, _, _ := s.bytes(p)
	return bytes > 0 || s.Proxy.InFlight.Fresh(s.Now) && s.Proxy.InFlight.N > 0
}
