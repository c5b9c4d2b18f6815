package drain

import "time"

// Pace is how often a source is to be read.
type Pace uint8

// The paces, the slowest first.
const (
	WhenTold  Pace = iota // only when a decision says Sample
	Rarely                // it decides nothing now: once a second
	Sometimes             // it shows the end of a container, which is to be seen within a second
	Steadily              // the drain waits for it
	Fast                  // its next reading may let a container go
)

// Every is the time from one reading to the next, poll being the shortest.
func (p Pace) Every(poll time.Duration) time.Duration {
	switch p {
	case WhenTold, Fast:
		return poll
	case Steadily:
		return 3 * poll
	case Sometimes:
		return max(300*time.Millisecond, 3*poll)
	default:
		return max(time.Second, 3*poll)
	}
}

// Looks says how often each source is to be read.
type Looks struct {
	Proxy, Sockets, Watches Pace
	Apps                    [MaxSources]Pace
}

func (l *Looks) all(pace Pace) {
	l.Proxy, l.Sockets, l.Watches = pace, pace, pace
	for i := range l.Apps {
		l.Apps[i] = pace
	}
}

// looks reads often only what the drain waits for: as long as one source has something in flight, no other can let anybody go. A
// zero that holds for a while is proved at the full pace, by all sources.
func (s *State) looks(p *Policy, waiting Why) (l Looks) {
	if s.Phase == Serving || s.Phase == Maintenance || s.Over {
		return l
	}
	l.all(Rarely)
	l.Proxy, l.Watches = Sometimes, Sometimes
	switch s.Phase {
	case Confirming, Holding, Announcing, Stopping:
		l.all(Steadily)
	case Settling:
		l.all(Fast)
	case Draining:
		s.lookAtWhatHolds(p, waiting, &l)
	default: // rarely
	}
	if s.halfGone() {
		l.Proxy, l.Watches = Fast, Fast
	}
	return l
}

func (s *State) lookAtWhatHolds(p *Policy, waiting Why, l *Looks) {
	switch waiting.Code {
	case ProxyUnknown, ArrivalsUnknown:
		l.Proxy = Fast
	case ProxyBusy:
		if i := s.busyByItself(p); i >= 0 {
			l.Apps[i] = Steadily
		} else {
			l.Proxy = Steadily
		}
	case AppBusy, AppUnknown:
		for i, who := range p.Sources {
			switch {
			case who != waiting.Who:
			case waiting.Code == AppUnknown:
				l.Apps[i] = Fast
			default:
				l.Apps[i] = Steadily
			}
		}
	default:
		l.Proxy, l.Sockets = Steadily, Steadily
	}
}

// busyByItself returns a source that has something in flight and costs next to nothing to ask, or -1.
func (s *State) busyByItself(p *Policy) int {
	for i, who := range p.Sources {
		if r := s.Sources[i]; p.Pushed>>i&1 != 0 && !p.worker(who) && r.Fresh(s.Now) && r.N > 0 {
			return i
		}
	}
	return -1
}

// halfGone reports whether a container was seen to have ended, but not twice yet.
func (s *State) halfGone() bool {
	for i := range s.Hooks {
		if h := &s.Hooks[i]; h.SeenUp && h.Live == Gone && !s.gone(ID(i)) {
			return true
		}
	}
	return false
}
