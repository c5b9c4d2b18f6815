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
	Wanted    Intents       // who wants maintenance
	Past      bool          // an earlier agent wrote this pod's last verdict, and nothing has come up since
	Draining0 time.Duration // when draining was first entered in this stop
	Hard      time.Duration // 0, or the deadline that SIGTERM pulled near
	Lone      bool          // one hook alone was taken for a stop: nothing that cannot be undone
	Finish    bool          // an operator asked to finish now
	Stage     int
	StageAt   time.Duration // when Stage's hooks were answered
	StageEnd  time.Duration // 0, or when its containers were seen to be gone
	LetGo     bool          // requests that come now may be lost: the first stage was let go; in observe mode, a container that was let go leaves
	Ending    Outcome       // how the drain will end, once stopping has begun
	EndingWhy Why           // why stopping began
	Earlier   Outcome       // how the stop ended, if not clean, that a repeated call took back: None, or containers were let go in it
	EarlyWhy  Why           // why stopping began in that one
	EarlyT0   time.Duration // when the newest such stop began
	TakenAt   time.Duration // 0, or when a repeated call took a stop back and began another, which has not ended yet
	Over      bool          // how it ends is decided: nothing else is any more
	EndedBy   Why
	Alive     Why  // the container that was still there at the end of its share
	Said      bool // the verdict is out

	Sources [MaxSources]Reading
	Busy    uint32 // one bit for each source whose newest known count was not zero
	Closed  uint32 // one bit for each source that was refused at its newest look
	Proxy   ProxySample
	Sockets SocketSample
	Facts   ProxyFacts
	FactsAt time.Duration

	OwnBytes      int64         // in Envoy's buffers at the newest look
	OwnBytesSince time.Duration // since when that number has not changed

	Conns      Arrivals // new connections, from the listeners' counters
	Peers      Arrivals // new connections, from the sockets
	Requests   Arrivals
	Empty      bool          // the sockets' last looks found no connection open
	EmptySince time.Duration // the first of those looks
	Idle       IdleRate
	Load       Load // as it was at T0

	Want     Actions       // to be in force
	Asked    Actions       // under way
	Done     Actions       // in force
	Failed   Actions       // their last attempt failed
	HandAt   time.Duration // 0, or since when the proxy's hook waits for its owner to take over
	RetryAt  time.Duration
	EndAsked time.Duration // when all were looked at because a container was seen gone
	ToldAt   time.Duration // when the app was told to drain last: what was seen of its port before says nothing of it since
}

// Hook is what is known of one container.
type Hook struct {
	Held       bool          // kubelet, or somebody, waits for our answer
	Called     time.Duration // when the held call came
	Released   bool          // answered in this stop
	AnsweredAt time.Duration // for the first time in this stop
	Open       bool          // its port was open then
	LetGoAt    time.Duration // when an answer let it go last; no stop that was none takes that back
	Told       bool          // to drain, in a stop that was none, and not seen to serve since
	Would      bool          // observe mode: would have been answered
	WouldAt    time.Duration
	Live       Liveness
	LiveAt     time.Duration
	GoneSince  time.Duration // of the first of the looks in a row that saw it gone
	SeenUp     bool          // at any time: a port that nobody ever listened on proves nothing
	UpAt       time.Duration // when the newest look that saw it up, or leaving, began
	OpenAt     time.Duration // when it was seen up last
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

// died reports whether a container has ended since the stop began, without having been let go: by us, or by kubelet, which told it
// together with us where its own hook never came. It was there when the stop began if it was seen to be, or if its hook came: kubelet
// calls none of a container that does not run.
func (s *State) died(p *Policy, id ID) bool {
	if !s.dead(p, id) { // nor can it where there is no such container
		return false
	}
	toldByKubelet := s.Sigterm && !s.called(id) && (s.Trigger.Has(id) || s.unhooked())
	h := &s.Hooks[id]
	letGo := h.Released && h.AnsweredAt <= h.GoneSince || s.letGoBefore(p, id)
	return (h.UpAt >= s.T0 || s.called(id)) && !letGo && !toldByKubelet
}

// letGoBefore reports whether a container ended within its share after an answer that let it go, in whatever stop: kubelet acted on
// that answer, although somebody may have called the hook again, or the stop was given up. Where a repeated call took the stop back it
// may go on all the same, and the grace period bounds the end: an app may finish what it has for longer than its share, and a sidecar is
// told only when the regular containers have ended.
func (s *State) letGoBefore(p *Policy, id ID) bool {
	h := &s.Hooks[id]
	after := h.GoneSince - h.LetGoAt
	within := scaled(p.share(p.stage(id)), p.Budget().Scale)
	if s.TakenAt != 0 && s.TakenAt >= h.LetGoAt {
		within = p.Grace
	}
	return h.LetGoAt > 0 && after >= 0 && after <= within
}

// dead reports whether a container is proved to have ended. An app that was told to drain may close its port and live on: it has
// ended only if it had something in flight then, and its count is refused too: one that hangs is unknown.
func (s *State) dead(p *Policy, id ID) bool {
	if !s.gone(id) || !s.told(id) || id == p.Proxy() {
		return s.gone(id)
	}
	for i, who := range p.Sources {
		if who == id && s.Busy>>i&1 != 0 && s.Closed>>i&1 != 0 {
			return true
		}
	}
	return false
}

// openFor is how old the look may be that found a port open when its hook was answered.
const openFor = 300 * time.Millisecond

// stillOpen reports whether a port is open now: the newest look found it so, lately, and after the app was told to drain, if it was.
func (s *State) stillOpen(h *Hook) bool {
	return h.Live != Leaving && h.Live != Gone && s.Now <= h.OpenAt+openFor && h.OpenAt > s.ToldAt
}

// mayLive reports whether an app that was told to drain may live behind the port that it closed for that: its count was not refused
// at the newest look. One that hangs is unknown. A port that was open when the hook was answered was closed for SIGTERM: that is an end.
func (s *State) mayLive(p *Policy, id ID) bool {
	if h := &s.Hooks[id]; !s.told(id) || h.Released && h.Open {
		return false
	}
	for i, who := range p.Sources {
		if who == id && s.Closed>>i&1 == 0 {
			return true
		}
	}
	return false
}

// told reports whether a container, if it is an app, was told to drain: nobody can take that back.
func (s *State) told(id ID) bool { return (s.Asked|s.Done)&TellApp != 0 || s.Hooks[id].Told }

// left reports whether a container that was up at the last look before our own SIGTERM leaves with it: a fact like a hook, and the
// only one where an injector leaves no hooks.
func (s *State) left(p *Policy, id ID) bool {
	h := &s.Hooks[id]
	lately := h.SeenUp && h.UpAt >= s.SigtermAt-p.IdleSample-time.Second
	return lately && !p.Containers[id].Agent && (s.gone(id) || h.Live == Leaving && h.LiveAt >= s.SigtermAt)
}

// called reports whether the container's hook came in this stop.
func (s *State) called(id ID) bool {
	return s.Hooks[id].Held || s.Hooks[id].Released || s.Hooks[id].Would
}

// unhooked reports whether no hook at all came in this stop: an injector left none.
func (s *State) unhooked() bool {
	for i := range s.Hooks {
		if s.called(ID(i)) {
			return false
		}
	}
	return true
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
		for i := range p.Containers {
			if s.left(p, ID(i)) {
				set = set.With(ID(i))
			}
		}
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
	case s.Wanted != 0, s.Phase == Maintenance:
		return false
	case p.Readiness == FailAtTrigger:
		return s.Phase < Announcing
	case p.Readiness == FailWhenDraining:
		return s.Phase < Draining
	}
	return true
}
