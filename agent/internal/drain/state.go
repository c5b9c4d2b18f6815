package drain

import "time"

// State is all that the core remembers. It is a plain value: copying it copies the drain. Its zero value is an agent that has just started.
type State struct {
	Phase Phase
	Now   time.Duration // time of the newest input
	Since time.Duration // when Phase was entered

	Hooks     [MaxContainers + 1]Hook
	Sigterm   bool // we got SIGTERM
	SigtermAt time.Duration
	Authentic bool // somebody proved to be kubelet: SIGTERM, or a hook with the token

	T0        time.Duration // first fact of this stop
	Trigger   Set           // whose facts made it a stop
	Operated  bool          // maintenance is in force
	Draining0 time.Duration // when draining was first entered in this stop
	Hard      time.Duration // 0, or the deadline that SIGTERM pulled near
	Lone      bool          // one hook alone was taken for a stop: nothing that cannot be undone
	Finish    bool          // an operator asked to finish now
	Stage     int
	StageAt   time.Duration // when Stage's hooks were answered
	StageEnd  time.Duration // 0, or when its containers were seen to be gone
	LetGo     bool          // requests that come now may be lost: the first stage was let go; in observe mode, a container that was let go leaves
	Ending    Outcome       // how the drain will end, once stopping has begun
	Over      bool          // how it ends is decided: nothing else is any more
	EndedBy   Why
	Said      bool // the verdict is out

	Sources [MaxSources]Reading
	Proxy   ProxySample
	Sockets SocketSample
	Facts   ProxyFacts
	FactsAt time.Duration

	Conns      Arrivals // new connections, from the listeners' counters
	Peers      Arrivals // new connections, from the sockets
	Requests   Arrivals
	Empty      bool          // the sockets' last looks found no connection open
	EmptySince time.Duration // the first of those looks
	Idle       IdleRate
	Load       Load // as it was at T0

	Want    Actions       // to be in force
	Asked   Actions       // under way
	Done    Actions       // in force
	Failed  Actions       // their last attempt failed
	HandAt  time.Duration // 0, or since when the proxy's hook waits for its owner to take over
	RetryAt time.Duration
}

// Hook is what is known of one container.
type Hook struct {
	Held       bool          // kubelet, or somebody, waits for our answer
	Called     time.Duration // when the held call came
	Released   bool          // answered in this stop
	AnsweredAt time.Duration
	Would      bool // observe mode: would have been answered
	WouldAt    time.Duration
	Live       Liveness
	LiveAt     time.Duration
	GoneSince  time.Duration // of the first of the looks in a row that saw it gone
	SeenUp     bool          // at any time: a port that nobody ever listened on proves nothing
	UpAt       time.Duration // when it was seen up, or leaving, last
}

// goneTwice is how far apart two looks must lie before a container counts as gone: one look may meet a listener that is just being replaced.
const goneTwice = 40 * time.Millisecond

// gone reports whether a container that had been up was seen to have ended, twice since the stop began: what was seen before
// then may be long out of date.
func (s *State) gone(id ID) bool {
	if id > Stranger {
		return false
	}
	h := &s.Hooks[id]
	return h.SeenUp && h.Live == Gone && h.GoneSince >= s.T0 && h.LiveAt-h.GoneSince >= goneTwice
}

// died reports whether a container has ended since the stop began, without having been let go.
func (s *State) died(id ID) bool {
	return s.gone(id) && s.Hooks[id].UpAt >= s.T0 && !s.Hooks[id].Released
}

// called reports whether the container's hook came in this stop.
func (s *State) called(id ID) bool {
	return s.Hooks[id].Held || s.Hooks[id].Released || s.Hooks[id].Would
}

// facts is the set of containers that somebody is stopping. A hook is a fact while it is held, and in observe mode, where a
// sleep may answer it at once, until the stop is over.
func (s *State) facts(p *Policy) Set {
	var set Set
	for i := range s.Hooks {
		if s.Hooks[i].Held || s.Hooks[i].Released {
			set = set.With(ID(i))
		}
	}
	if s.Sigterm {
		if agent := p.Agent(); agent != Nobody {
			set = set.With(agent)
		} else {
			set |= 1 << (MaxContainers + 1)
		}
	}
	return set
}

// Held returns the containers whose hooks wait for an answer.
func (s *State) Held() Set {
	var set Set
	for i := range s.Hooks {
		if s.Hooks[i].Held {
			set = set.With(ID(i))
		}
	}
	return set
}

// firstFact is when the oldest fact still in force came.
func (s *State) firstFact() time.Duration {
	first := Never
	for i := range s.Hooks {
		if s.Hooks[i].Held || s.Hooks[i].Released {
			first = min(first, s.Hooks[i].Called)
		}
	}
	if s.Sigterm {
		first = min(first, s.SigtermAt)
	}
	return first
}

// Ready reports whether the agent's readiness probe succeeds. On a pod stop it does by default: the deletion itself takes the
// pod out of its endpoints, and failing earlier takes away the last resort of a single replica.
func Ready(p *Policy, s *State) bool {
	switch {
	case p.Observe:
		return true
	case s.Operated, s.Phase == Maintenance:
		return false
	case p.Readiness == FailAtTrigger:
		return s.Phase < Announcing
	case p.Readiness == FailWhenDraining:
		return s.Phase < Draining
	}
	return true
}
