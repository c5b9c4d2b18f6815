package drain

import "time"

// Arrivals follows one counter of things that come in: connections or requests.
type Arrivals struct {
	Last    Reading
	LastAt  time.Duration // when the newest arrival was seen; the truth lies between the look before and this one
	Gap     time.Duration // longest gap between arrivals of which the later came after propagation
	Count   int64         // arrivals since T0
	Late    int64         // arrivals after the first hook was answered
	allowed float64       // background arrivals that may come unnoticed

	Bare   int64         // new connections that have brought no request yet
	BareAt time.Duration // when the newest of them was seen
}

// together is how far apart the looks at a connection and at its first request may lie.
const together = time.Second

// burst is how many known probes and scrapes may arrive in one burst without counting as traffic.
func burst(p *Policy) float64 { return 2 + p.Background }

// see takes a new reading of the counter; one that was seen before says nothing. A counter that went backwards belongs to a new
// process: it starts anew.
func (a *Arrivals) see(p *Policy, s *State, r Reading) {
	if !r.Known || a.Last.Known && r.At <= a.Last.At {
		return
	}
	before := a.Last
	a.Last = r
	if !before.Known || r.N < before.N {
		a.LastAt = r.At
		a.allowed = burst(p)
		return
	}
	came := r.N - before.N
	if p.Background > 0 {
		a.allowed += p.Background * (r.At - before.At).Seconds()
		known := min(came, int64(a.allowed))
		a.allowed = min(a.allowed-float64(known), burst(p))
		came -= known
	}
	switch {
	case came <= 0:
	case a == &s.Requests || !s.requestsTell() || s.Requests.LastAt+together >= r.At:
		a.arrived(p, s, r.At, came)
	default:
		a.Bare, a.BareAt = came, r.At
	}
}

// requestsTell reports whether a connection that brings no request is known to be none of a client: a TCP check, a port scan.
func (s *State) requestsTell() bool {
	return s.Facts.Known && s.Facts.Requests && s.Requests.Last.Fresh(s.Now)
}

// claim counts the connections that a request came on after all.
func (a *Arrivals) claim(p *Policy, s *State, at time.Duration) {
	if a.Bare > 0 && at-a.BareAt <= together {
		a.arrived(p, s, at, a.Bare)
		a.Bare = 0
	}
}

// seeRequests takes a new reading of the request counter. A request that came while every look at the sockets found no connection
// came on one that was opened and closed between two looks: a new connection all the same.
func (s *State) seeRequests(p *Policy, r Reading) {
	if s.Phase == Serving || s.Phase == Maintenance {
		s.Idle.see(r)
	}
	before := s.Requests.Last.At
	s.Requests.see(p, s, r)
	if s.Requests.Last.At <= before || s.Requests.LastAt != r.At {
		return
	}
	s.Conns.claim(p, s, r.At)
	s.Peers.claim(p, s, r.At)
	if s.Empty && s.EmptySince <= before && s.Sockets.Conns.Fresh(s.Now) {
		s.Peers.arrived(p, s, r.At, 1)
	}
}

func (s *State) seeSockets(p *Policy, sample SocketSample) {
	s.Sockets = sample
	s.Peers.see(p, s, sample.NewConns)
	empty := sample.Conns.Known && sample.Conns.N == 0
	if empty && !s.Empty {
		s.EmptySince = sample.Conns.At
	}
	s.Empty = empty
}

func (a *Arrivals) arrived(p *Policy, s *State, at time.Duration, n int64) {
	if s.Phase.Terminating() {
		a.Count += n
		if at > s.T0+p.Propagation {
			a.Gap = max(a.Gap, at-max(a.LastAt, s.T0))
		}
		if s.LetGo {
			a.Late += n
		}
	}
	a.LastAt = at
}

// silence is how long nothing had arrived when the counter was read last, counted from since at the earliest. What came after
// that look nobody knows: silence grows by looking, not by waiting.
func (a *Arrivals) silence(since time.Duration) time.Duration {
	return a.Last.At - max(a.LastAt, since)
}

// restart forgets what belongs to an earlier stop, not what is known of the silence.
func (a *Arrivals) restart() { a.Gap, a.Count, a.Late, a.Bare = 0, 0, 0, 0 }

// IdleRate measures the request rate between two looks in serving.
type IdleRate struct {
	From      Reading
	PerSecond float64
	Known     bool
	NextAt    time.Duration // when to look again
	Every     time.Duration
}

// see measures the rate since the look before. Looks less than half a second apart say nothing.
func (i *IdleRate) see(r Reading) {
	if !r.Known {
		return
	}
	gap := r.At - i.From.At
	if i.From.Known && gap < 500*time.Millisecond {
		return
	}
	if i.From.Known && r.N >= i.From.N {
		i.PerSecond, i.Known = float64(r.N-i.From.N)/gap.Seconds(), true
	}
	i.From = r
}

// next plans the next look: soon after the start, then ever more rarely until the policy's period is reached.
func (i *IdleRate) next(p *Policy, now time.Duration) {
	i.Every = min(max(2*i.Every, time.Second), p.IdleSample)
	i.NextAt = now + i.Every
}

// Load is the traffic as it was when the stop began: what the stopping score judges by.
type Load struct {
	Requests  Reading // the request counter at the first look after T0
	PerSecond float64 // requests per second, without the background
	Known     bool
	Conns     int64 // connections open then
	ConnsOK   bool
}

// takeLoad fixes the rate at the first look after T0: the higher of the mean over Envoy's life until then and the last idle
// sample. Envoy's age may be told after that look. It comes in whole seconds: an Envoy of age 0 that has answered requests gets a
// rate so high that the silence alone decides; one that has answered none has the rate 0 at any age.
func (s *State) takeLoad(p *Policy) {
	if s.Phase == Serving || s.Phase == Maintenance {
		return
	}
	if open := s.openConns(); !s.Load.ConnsOK && open.Known && open.At >= s.T0 {
		s.Load.Conns, s.Load.ConnsOK = open.N, true
	}
	first := &s.Load.Requests
	r := s.Proxy.Requests
	if p.Direct() {
		r = s.Sockets.Data
	}
	if !first.Known && r.Known && r.At >= s.T0 {
		*first = r
	}
	if s.Load.Known || !first.Known || !p.Direct() && !s.Facts.Known && !s.Idle.Known {
		return
	}
	s.Load.Known = true
	age := first.At // without Envoy they are counted since we started
	if !p.Direct() {
		age += s.Facts.Uptime - s.FactsAt
	}
	if s.Facts.Known || p.Direct() {
		s.Load.PerSecond = float64(first.N) / max(age, time.Millisecond).Seconds()
	}
	s.Load.PerSecond = max(0, max(s.Load.PerSecond, s.Idle.PerSecond)-p.Background)
}

// steady is how many requests in 1000 s go on coming as they did before the stop; 0 when they do not, or when they were many. Clients
// move away: what comes on at the same rate may well be probes and scrapes.
func (s *State) steady() int64 {
	before, last, first := s.Load.PerSecond, s.Requests.Last, s.Load.Requests
	span := (last.At - first.At).Seconds()
	if !s.Load.Known || before > 10 || span < 3 {
		return 0
	}
	if now := float64(last.N-first.N) / span; now == 0 || now < before/2 || now > 2*before {
		return 0
	}
	return int64(before * 1000)
}

// openConns is the best count of open inbound connections: the listeners' own, else the sockets'.
func (s *State) openConns() Reading {
	if s.Proxy.Conns.Fresh(s.Now) {
		return s.Proxy.Conns
	}
	if s.Sockets.Conns.Fresh(s.Now) {
		return s.Sockets.Conns
	}
	return Reading{}
}

// newConns is the best record of new connections: the listeners' counter, the sockets, else all requests, which bound them from above.
func (s *State) newConns() *Arrivals {
	for _, a := range []*Arrivals{&s.Conns, &s.Peers, &s.Requests} {
		if a.Last.Fresh(s.Now) {
			return a
		}
	}
	return nil
}
