package drain

import "time"

// Score is how many requests stopping now would hit, as far as the pod's own traffic tells:
//
//	min(λ, 1/s)·τ
//
// λ is the request rate per connection before the stop times the connections still open, s the seconds since the last request,
// τ the time during which a client can still hit us after the first process was told to stop. Unknown when nobody can tell the
// arrivals. A pool that was never used scores 0; a pool that comes back rarely is waited for until the silence speaks.
func Score(p *Policy, s *State) (score float64, known bool) {
	if !s.Load.Known || !s.Requests.Last.Fresh(s.Now) {
		return 0, false
	}
	rate := s.Load.PerSecond
	if open := s.openConns(); open.Known && s.Load.ConnsOK {
		rate *= float64(open.N) / float64(max(1, s.Load.Conns))
	}
	if silence := s.Requests.silence(0).Seconds(); silence*rate > 1 {
		rate = 1 / silence
	}
	return rate * p.Exposure.Seconds(), true
}

// quiet reports whether nobody sends any more, or else what still keeps us waiting. Two classes of arrivals, two rules.
func (s *State) quiet(p *Policy) (Why, bool) {
	if s.Now >= s.Draining0+p.QuietMax {
		return Why{Code: QuietMaxOver, For: p.QuietMax}, true
	}
	if s.Now < s.T0+p.Propagation {
		return Why{Code: Propagating, For: p.Propagation}, false
	}
	if s.gone(p.Proxy()) {
		return Why{Code: SettledZero}, true // nobody can arrive any more
	}
	conns := s.newConns()
	if conns == nil {
		return Why{Code: ArrivalsUnknown}, false
	}
	if need := s.silenceAsked(p, conns); conns.silence(s.T0) < need {
		return Why{Code: NewConnectionsCome, For: need}, false
	}
	score, known := Score(p, s)
	switch {
	case !known:
		return Why{Code: ArrivalsUnknown}, false
	case score > p.AcceptLoss:
		return Why{Code: ScoreHigh, N: s.openConns().N}, false
	}
	return Why{Code: SettledZero}, true
}

// silenceAsked is how long no new connection may come: quiet-min, and four times the longest gap where some still came after propagation.
func (s *State) silenceAsked(p *Policy, conns *Arrivals) time.Duration {
	return min(max(p.QuietMin, 4*conns.Gap), p.QuietMax)
}
