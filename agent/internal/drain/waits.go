package drain

import "time"

// Rank orders the waits of a drain. What ends a wait never shortens one of a higher rank; only the budget ends all of them.
type Rank uint8

// The ranks, the highest first.
const (
	InFlight    Rank = 1 + iota // requests and bytes: as long as they take
	Propagation                 // --propagation, to the millisecond
	Silence                     // what a client may still do: together at most --quiet-max from the end of propagation
)

var rankNames = [...]string{"", "requests and bytes in flight", "propagation", "silence"}

// String returns the rank's name in the docs.
func (r Rank) String() string { return rankNames[r] }

// Wait is one thing that stands between a pod stop and the release of the first stage.
type Wait struct {
	Rank  Rank
	For   string // what is waited for
	Until string // what ends it, the budget and --drain-max aside
	what  what
}

type what uint8

const (
	proxyRequests what = iota
	appRequests
	bytesUnderWay
	peersToKnow
	bytesUncounted
	noNewConnections
	lowScore
)

// waits is the only place that says which wait outranks which. They are asked in this order.
var waits = [...]Wait{
	{InFlight, "the proxy's requests", "they read zero, fresh; unknown is not zero", proxyRequests},
	{InFlight, "each app source's requests", "they read zero, fresh; unknown is not zero", appRequests},
	{InFlight, "bytes in Envoy's buffers and in the sockets' send queues", "they read zero; what stands still for 5 s no longer counts", bytesUnderWay},
	{Propagation, "peers that do not know yet", "`--propagation` since T0 is over", peersToKnow},
	{Silence, "bytes that cannot be counted while a connection is open", "they can be, no connection is open, or `--quiet-max`", bytesUncounted},
	{Silence, "new connections", "none for `--quiet-min`, or four times the longest gap between late ones; or `--quiet-max`", noNewConnections},
	{Silence, "idle connections that may come back", "the stopping score is at most `--accept-loss`; or `--quiet-max`", lowScore},
}

// Waits returns the table of waits in the order of their ranks.
func Waits() []Wait { return append([]Wait(nil), waits[:]...) }

// done reports whether nothing is waited for any more, or else what is. With since > 0 every reading must also have been taken
// after that time.
func (s *State) done(p *Policy, since time.Duration) (Why, bool) {
	over := s.Now >= s.silenceEnd(p)
	reason := Why{Code: SettledZero}
	for i := range waits {
		why := s.waitsFor(p, waits[i].what, since)
		switch {
		case why.Code == NoReason:
		case waits[i].Rank == Silence && over:
			reason = Why{Code: QuietMaxOver, For: p.QuietMax, N: s.steady()}
		default:
			return why, false
		}
	}
	return reason, true
}

// silenceEnd is when the waits of the lowest rank are over whatever is read.
func (s *State) silenceEnd(p *Policy) time.Duration { return s.T0 + p.Propagation + p.QuietMax }

func (s *State) waitsFor(p *Policy, w what, since time.Duration) Why {
	switch w {
	case proxyRequests:
		if proxy := p.Proxy(); p.ProxyAdmin && !s.gone(proxy) {
			return s.reads0(s.Proxy.InFlight, since, ProxyBusy, ProxyUnknown, proxy)
		}
	case appRequests:
		return s.appsRead0(p, since)
	case bytesUnderWay:
		switch n, known, at := s.bytes(p); {
		case n > 0:
			return Why{Code: BytesUnderWay, N: n}
		case known && at < since:
			return Why{Code: SettleTime}
		}
	case peersToKnow:
		if s.Now < s.T0+p.Propagation {
			return Why{Code: Propagating, For: p.Propagation}
		}
	case bytesUncounted:
		if !s.bytesKnown(p) {
			return Why{Code: BytesUnknown}
		}
	case noNewConnections, lowScore:
		if s.gone(p.Proxy()) {
			return Why{} // nobody can arrive any more
		}
		if w == lowScore {
			return s.scoreWait(p)
		}
		return s.newcomersWait(p, since)
	}
	return Why{}
}

// counts reports whether an app source is asked; a worker's end is waited for, not its count. A source stops counting only when its process
// is proved gone: a closed port is no proof where the app was told to drain, unless its count is refused too.
func (s *State) counts(p *Policy, source int) bool {
	who := p.Sources[source]
	return !p.worker(who) && (!s.gone(who) || s.told(who) && s.Closed>>source&1 == 0)
}

// appsRead0 asks every app source that counts.
func (s *State) appsRead0(p *Policy, since time.Duration) Why {
	for i, who := range p.Sources {
		if !s.counts(p, i) {
			continue
		}
		if why := s.reads0(s.Sources[i], since, AppBusy, AppUnknown, who); why.Code != NoReason {
			return why
		}
	}
	return Why{}
}

func (s *State) reads0(r Reading, since time.Duration, busy, unknown Code, who ID) Why {
	switch {
	case !r.Fresh(s.Now):
		return Why{Code: unknown, Who: who}
	case r.N != 0:
		return Why{Code: busy, Who: who, N: r.N}
	case r.At < since:
		return Why{Code: SettleTime, Who: who}
	}
	return Why{}
}

// bytes is how many bytes are on their way to clients as far as anybody counts, without those that stand still; whether all of
// them are counted; and the time of the older of the two readings.
func (s *State) bytes(p *Policy) (n int64, known bool, at time.Duration) {
	known, at = s.Sockets.Bytes.Fresh(s.Now), s.Sockets.Bytes.At
	if known {
		n = s.Sockets.Bytes.N
	}
	if own := s.Proxy.Bytes; p.ProxyAdmin && !s.gone(p.Proxy()) {
		at = min(at, own.At)
		if !own.Fresh(s.Now) {
			return n, false, at
		}
		if own.At-s.OwnBytesSince < StallAfter {
			n += own.N
		}
	}
	return n, known, at
}

// bytesKnown reports whether bytes are counted, or cannot be on their way because no connection is open.
func (s *State) bytesKnown(p *Policy) bool {
	_, known, _ := s.bytes(p)
	return known || p.blind() || s.openConns().Count == Known(0)
}

// seeOwnBytes notes since when what stands in Envoy's buffers has not changed.
func (s *State) seeOwnBytes(r Reading) {
	if r.Known && (r.N != s.OwnBytes || s.OwnBytesSince == 0) {
		s.OwnBytes, s.OwnBytesSince = r.N, r.At
	}
}

func (s *State) newcomersWait(p *Policy, since time.Duration) Why {
	conns := s.newConns()
	if conns == nil {
		return Why{Code: ArrivalsUnknown}
	}
	if need := s.silenceAsked(p, conns); conns.silence(s.T0) < need || conns.Last.At < since {
		return Why{Code: NewConnectionsCome, For: need}
	}
	if conns.Bare > 0 && s.Now-conns.BareAt < p.QuietMin/2 {
		return Why{Code: RequestAwaited, For: p.QuietMin / 2}
	}
	return Why{}
}

// silenceAsked is how long no new connection may come: quiet-min, and four times the longest gap where some still came after propagation.
func (s *State) silenceAsked(p *Policy, conns *Arrivals) time.Duration {
	return min(max(p.QuietMin, 4*conns.Gap), p.QuietMax)
}

func (s *State) scoreWait(p *Policy) Why {
	score, known := Score(p, s)
	switch {
	case !known:
		return Why{Code: ArrivalsUnknown}
	case score > p.AcceptLoss:
		return Why{Code: ScoreHigh, N: s.openConns().N}
	}
	return Why{}
}

// idle reports whether a container that is being replaced has nothing in flight, as far as anybody counts for it. What was read before its
// hook came says nothing: a reading that is rare may be fresh and older.
func (s *State) idle(p *Policy, id ID) bool {
	if id == p.Agent() {
		return true
	}
	zero := func(r Reading) bool { return r.Fresh(s.Now) && r.N == 0 && r.At >= s.Hooks[id].Called }
	if id == p.Proxy() {
		return zero(s.Proxy.InFlight)
	}
	counted := false
	for i, who := range p.Sources {
		if who != id {
			continue
		}
		if counted = true; !zero(s.Sources[i]) {
			return false
		}
	}
	return counted
}
