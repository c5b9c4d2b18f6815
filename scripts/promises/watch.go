package promises

import "time"

// Reading is what a source said last.
type Reading struct {
	N     int64
	Known bool
	At    time.Duration // when it was asked
	Every time.Duration // how often it is
}

func (r Reading) fresh(now time.Duration) bool {
	return r.Known && now-r.At <= max(3*r.Every, 500*time.Millisecond)
}

// Liveness says what was seen of a container.
type Liveness uint8

// What can be seen of a container.
const (
	Unseen Liveness = iota
	Up
	Leaving // its listener is closed, connections are still open
	Gone
)

// stallAfter is how long bytes that stand still hold a drain.
const stallAfter = 5 * time.Second

// goneTwice is how far apart two looks lie that prove an end.
const goneTwice = 40 * time.Millisecond

// nextLook is how long after one look the next comes at the latest, of those that a log does not tell of.
const nextLook = 500 * time.Millisecond

type hook struct {
	held, released          bool
	called, answered        time.Duration
	live                    Liveness
	seenUp                  bool
	liveAt, goneSince, upAt time.Duration
	openAt, letGoAt         time.Duration
	open                    bool // when it was answered
	told                    bool // to drain, in a stop that was none, and not seen to serve since
}

// counter is a counter of arrivals, and when it was seen to grow.
type counter struct {
	last, known Reading // the newest, and the newest that was one: what came while it was hidden is seen when it is shown again
	grew        time.Duration
}

func (c *counter) see(r Reading) {
	if c.last = r; !r.Known {
		return
	}
	if c.known.Known && r.N > c.known.N {
		c.grew = r.At
	}
	c.known = r
}

// Watch is all that was seen so far. It is a plain value: copying it copies the watch.
type Watch struct {
	now   time.Duration
	phase Phase
	since time.Duration // when phase was entered
	hooks [MaxContainers + 1]hook

	sigterm, token     bool
	sigtermAt          time.Duration
	patience           time.Duration // 0, or when SIGTERM met our own held hook
	finish             bool
	finishAt           time.Duration // the newest, also of a stop that was none
	t0                 time.Duration // of the stop, 0 when there is none
	began, stopAt      time.Duration // when draining and stopping were entered first
	zeroStop           bool          // stopping began at a settled zero
	trigger            Set           // whose signals made it a stop
	doubted            Set           // who had just been seen gone then: once or twice, a log does not tell
	turn               [MaxContainers + 1]time.Duration
	earlier            uint8         // 0, or the verdicts of worse that a stop before this one bore
	earlyT0            time.Duration // when the newest of those began
	takenAt            time.Duration // 0, or when a repeated call took a stop back and began another
	late               Set           // of whom was seen that they were there when their share was over
	unsaid             Set           // of whom a log does not say what was seen of them then
	proved             time.Duration
	wanted             uint8         // who wants maintenance
	toldAt             time.Duration // when the app was told to drain last
	told               bool          // an earlier agent wrote the pod's verdict
	done               Actions
	asked              Actions
	failed             Actions
	failedAt           time.Duration
	handAt             time.Duration
	handover           bool
	final              string // the last verdict of all
	finalAt            time.Duration
	exited             bool
	proxy, own, queued Reading
	ownN               int64 // the newest that was known, and since when it is the same
	ownSince           time.Duration
	conns, socks       Reading
	opened, peers, rqs counter
	apps               [MaxContainers]Reading
	busy               uint32 // by source: its newest known count was not zero
	closed             uint32 // by source: nobody was there any more when it was asked
	everAsked          bool
	described          bool
}

// At says what time it is.
func (w *Watch) At(now time.Duration) { w.now = max(w.now, now) }

// Called shows a hook's call.
func (w *Watch) Called(id int, token bool) {
	h := &w.hooks[id]
	if !h.held {
		h.held, h.called = true, w.now
	}
	w.token = w.token || token
}

// Sooner shows that what holds hooks, and SIGTERM, came that much sooner than was said.
func (w *Watch) Sooner(by time.Duration) {
	for id := range w.hooks {
		if w.hooks[id].held {
			w.hooks[id].called -= by
		}
	}
	if w.sigterm {
		w.sigtermAt -= by
	}
}

// Forget shows that a hook was answered, and when is not known.
func (w *Watch) Forget(id int) { w.hooks[id] = hook{} }

// Sigterm shows our own SIGTERM.
func (w *Watch) Sigterm(p *Pod) {
	if !w.sigterm {
		w.sigterm, w.sigtermAt = true, w.now
	}
	if a := p.agent(); a >= 0 && w.hooks[a].held && w.patience == 0 {
		w.patience = w.now
	}
}

// Finish shows an operator's finish.
func (w *Watch) Finish() {
	if w.phase != Serving && w.phase != Maintenance {
		w.finish, w.finishAt = true, w.now
	}
}

// Want shows that somebody wants maintenance, or no longer does. An earlier agent's wish that has no name is its number 2: the others,
// the operator with number 0 or who had one too, undo it.
func (w *Watch) Want(who int, wanted bool) {
	const earlier = 1 << 2
	switch {
	case wanted:
		w.wanted |= 1 << who
	default:
		if who == 0 || w.wanted>>who&1 != 0 {
			w.wanted &^= earlier
		}
		w.wanted &^= 1 << who
	}
}

// Restored shows an earlier agent's journal.
func (w *Watch) Restored(wanted uint8, healthFailed, ended bool) {
	w.wanted |= wanted
	w.told = w.told || ended
	if healthFailed {
		w.done |= FailHealth
	}
}

// Described shows what is known of the Envoy: whether its owner has a drain of its own, and whether it is another process than before.
func (w *Watch) Described(handover, replaced bool) {
	w.handover, w.described = handover, true
	if replaced {
		w.done &^= FailHealth | DrainListeners | HandOver
		w.failed &^= HandOver
	}
}

// Proxy shows a reading of Envoy: what is in flight, bytes in its buffers, connections open, opened, requests so far.
func (w *Watch) Proxy(inFlight, bytes, conns, opened, requests Reading) {
	w.proxy, w.conns = inFlight, conns
	if bytes.Known && (bytes.N != w.ownN || w.ownSince == 0) {
		w.ownN, w.ownSince = bytes.N, bytes.At
	}
	w.own = bytes
	w.opened.see(opened)
	w.rqs.see(requests)
	w.everAsked = w.everAsked || requests.Known && requests.N > 0
}

// Sockets shows a reading of the inbound ports' sockets: connections open, opened, bytes in their send queues that move.
func (w *Watch) Sockets(conns, opened, bytes Reading) {
	w.socks, w.queued = conns, bytes
	w.peers.see(opened)
}

// App shows a reading of one app source, and whether it was refused: then nobody is there any more.
func (w *Watch) App(source int, r Reading, refused bool) {
	w.apps[source] = r
	w.closed &^= 1 << source
	if refused {
		w.closed |= 1 << source
	}
	if r.Known {
		w.busy &^= 1 << source
		if r.N != 0 {
			w.busy |= 1 << source
		}
	}
}

// Saw shows what was seen of a container, by a look that took so long.
func (w *Watch) Saw(p *Pod, id int, live Liveness, took time.Duration) {
	h := &w.hooks[id]
	if live == Gone && (h.live != Gone || h.goneSince < w.t0) {
		h.goneSince = w.now
	}
	h.live, h.liveAt = live, w.now
	if live == Up || live == Leaving {
		h.seenUp, h.upAt = true, w.now-took
		if live == Up {
			h.openAt = w.now
			h.told = h.told && w.phase != Serving && w.phase != Maintenance
		}
		w.told = w.told && (p.Containers[id].Proxy || p.Containers[id].Agent)
	}
}

// SeenGone reports whether the newest look at a container found it gone.
func (w *Watch) SeenGone(id int) bool { return w.hooks[id].live == Gone }

// Acted shows how an action ended.
func (w *Watch) Acted(a Actions, ok bool) {
	w.asked &^= a
	if !ok {
		w.failed, w.failedAt = w.failed|a, w.now
		return
	}
	w.failed &^= a
	switch a {
	case PassHealth:
		w.done &^= FailHealth
	default:
		w.done |= a
	}
}

func (w *Watch) called(id int) bool { return w.hooks[id].held || w.hooks[id].released }

func (w *Watch) nobodyCalled() bool {
	for id := range w.hooks {
		if w.called(id) {
			return false
		}
	}
	return true
}

// signals is the set of containers that somebody is stopping: hooks, and our own SIGTERM.
func (w *Watch) signals(p *Pod) (set Set) {
	for id := range w.hooks {
		if w.called(id) {
			set |= 1 << id
		}
	}
	if !w.sigterm {
		return set
	}
	if a := p.agent(); a >= 0 {
		return set | 1<<a
	}
	return set | 1<<(MaxContainers+1)
}

// leaving is the set of containers that were seen to leave with our own SIGTERM.
func (w *Watch) leaving(p *Pod) (set Set) {
	for id := range p.Containers {
		h := &w.hooks[id]
		if w.sigterm && !p.Containers[id].Agent && (w.gone(p, id) || h.live == Leaving && h.liveAt >= w.sigtermAt) {
			set |= 1 << id
		}
	}
	return set
}

// unforgeable reports whether something that no stranger can fake says that the pod is being stopped.
func (w *Watch) unforgeable(p *Pod) bool {
	if w.sigterm || w.token && !w.lone(p) {
		return true
	}
	for id := range p.Containers {
		h := &w.hooks[id]
		if w.toldApp(p, id) && id != p.proxy() {
			continue // it may have closed its port because it was told to
		}
		if w.called(id) && h.seenUp && (w.gone(p, id) || h.live == Leaving && h.liveAt >= w.t0) {
			return true
		}
	}
	return false
}

// lone reports whether the stop rests on the only hook that there is.
func (w *Watch) lone(p *Pod) bool {
	trigger := w.trigger
	if w.phase == Confirming { // what has come since is part of it
		trigger |= w.signals(p)
	}
	return !w.sigterm && p.Hooks != 0 && p.Hooks&(p.Hooks-1) == 0 && trigger&^p.Hooks == 0
}

func (w *Watch) held() (set Set) {
	for id := range w.hooks {
		if w.hooks[id].held {
			set |= 1 << id
		}
	}
	return set
}

// Decided shows what the agent did about what it was shown last, and returns the first promise that it broke, "" when it kept all.
func (w *Watch) Decided(p *Pod, d Decision) (broken string) {
	w.phase = d.From
	if d.From < Confirming || d.From == Maintenance {
		w.t0 = 0
	}
	if d.From == Stopping {
		w.turns(p) // whose share is over with this decision
	}
	for _, promise := range promises {
		if why := promise.kept(w, p, &d); why != "" {
			return promise.name + ": " + why
		}
	}
	w.take(p, &d)
	return ""
}

// stillOpen reports whether a port is open: it was 0.3 s ago at most, was not seen closed since, and that look was after the app was told
// to drain.
func (w *Watch) stillOpen(h *hook) bool {
	return h.live != Leaving && h.live != Gone && w.now <= h.openAt+300*time.Millisecond && h.openAt > w.toldAt
}

// take writes down what was decided.
func (w *Watch) take(p *Pod, d *Decision) {
	for id := range w.hooks {
		if h := &w.hooks[id]; d.Answered.Has(id) {
			if !h.released {
				h.answered, h.open = w.now, w.stillOpen(h)
				switch {
				case h.live != Gone:
					h.letGoAt = w.now
				case w.mayLive(p, id): // its port is closed, and no more is known
					h.letGoAt, h.goneSince = w.now, w.now
				case h.goneSince == w.now: // in one millisecond of a log
					h.answered++
				}
			}
			h.held, h.released = false, true
		}
	}
	w.asked |= d.Do
	if d.Do&TellApp != 0 {
		w.toldAt = w.now
	}
	if d.Do&HandOver != 0 && w.handAt == 0 {
		w.handAt = w.now
	}
	w.exited = w.exited || d.Exit
	if d.Verdict != "" && d.To == Finished {
		w.final, w.finalAt = d.Verdict, w.now
	}
	if w.proved == 0 && d.To == Finished && w.unforgeable(p) {
		w.proved = w.now
	}
	if d.From != d.To {
		w.enter(p, d)
	}
	if d.To >= Stopping {
		w.turns(p)
	}
}
