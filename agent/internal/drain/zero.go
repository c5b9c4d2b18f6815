package drain

import "time"

// zero reports whether every configured source reads zero and fresh, or else which one does not. A source stops counting only
// when its process is proved gone. With since > 0 every reading must also have been taken after that time.
func (s *State) zero(p *Policy, since time.Duration) (Why, bool) {
	if proxy := p.Proxy(); p.ProxyAdmin && !s.gone(proxy) {
		if why, ok := s.reads0(s.Proxy.InFlight, since, ProxyBusy, ProxyUnknown, proxy); !ok {
			return why, false
		}
	}
	for i, who := range p.Sources {
		if s.gone(who) {
			continue
		}
		if why, ok := s.reads0(s.Sources[i], since, AppBusy, AppUnknown, who); !ok {
			return why, false
		}
	}
	return Why{Code: SettledZero}, true
}

func (s *State) reads0(r Reading, since time.Duration, busy, unknown Code, who ID) (Why, bool) {
	switch {
	case !r.Fresh(s.Now):
		return Why{Code: unknown, Who: who}, false
	case r.N != 0:
		return Why{Code: busy, Who: who, N: r.N}, false
	case r.At < since:
		return Why{Code: SettleTime, Who: who}, false
	}
	return Why{}, true
}

// idle reports whether a container that is being replaced has nothing in flight, as far as anybody counts for it.
func (s *State) idle(p *Policy, id ID) bool {
	if id == p.Agent() {
		return true
	}
	if id == p.Proxy() {
		return s.Proxy.InFlight.Fresh(s.Now) && s.Proxy.InFlight.N == 0
	}
	counted := false
	for i, who := range p.Sources {
		if who != id {
			continue
		}
		if counted = true; !s.Sources[i].Fresh(s.Now) || s.Sources[i].N != 0 {
			return false
		}
	}
	return counted
}
