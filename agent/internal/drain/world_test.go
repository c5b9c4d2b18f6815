package drain

import (
	"fmt"
	"strings"
	"time"

	"github.com/drain-agent/drain-agent/scripts/promises"
)

// world is a pod in virtual time: it feeds Step as the conductor does and does what the decisions ask for.
type world struct {
	p   Policy
	s   State
	now time.Duration
	log strings.Builder

	proxy, app     Count // in flight
	conns          Count
	newConns, rqs  Count // counters
	sockConns      Count
	sockNew        Count
	sockData       Count // counter of what clients have sent
	buffered       Count // bytes in Envoy's buffers
	queued         Count // bytes in send queues that move
	live           [MaxContainers]Liveness
	endsAfter      [MaxContainers]time.Duration // from its hook's answer to its end; <0: never
	endAt          [MaxContainers]time.Duration
	calledAt       [MaxContainers + 1]time.Duration
	signals        bool          // kubelet is there: SIGTERM follows the answer of the agent's hook
	signalAt       time.Duration // 0, or when it does
	actFails       Actions
	actHangs       Actions // begun, never over
	nextPoll, wake time.Duration
	every          time.Duration    // polling period
	late           [3]time.Duration // per poller, from its look to its report
	coming         [3]look          // looked at, not reported yet
	nextLook       [3]time.Duration // not before: whoever answers slowly is asked rarely
	rare           time.Duration    // the proxy's statistics are read no more often, only its hosts are
	stats          look             // when they were read last
	arrivedAt      time.Duration    // when the newest connection came
	policyID       *Policy          // set by an exploration
	looks          Looks
	lookedAt       [4]time.Duration // when each poller looked last
	reads          [4]int           // how often
	appHangs       bool             // what is unknown of it is late, not refused
	pageStays      bool             // its count can be read after its end

	answered [MaxContainers + 1]time.Duration
	verdicts []Outcome
	done     Actions
	watch    promises.Watch // what somebody beside the agent has seen
	pod      *promises.Pod
	podOf    [4]int64
	exited   bool
	events   []string
	onPoll   func(w *world) // may change the world before each poll
	check    func(w *world, d Decision, broken string)
}

// look is what all sources said at one moment.
type look struct {
	at, due, every                                       time.Duration
	zeroAt, statsAt                                      time.Duration // of a proxy that has nothing, and of its counters
	proxy, app, conns, newConns, rqs, sockConns, sockNew Count
	buffered, queued, sockData                           Count
}

func newWorld(p Policy) *world {
	w := &world{p: p, every: 25 * time.Millisecond, proxy: Known(0), app: Known(0), conns: Known(0), newConns: Known(0), rqs: Known(0), buffered: Known(0), queued: Known(0)}
	for i := range w.live {
		w.live[i], w.endsAfter[i] = Up, 300*time.Millisecond
	}
	w.send(Input{Kind: Described, Facts: ProxyFacts{Known: true, Directed: true, Uptime: time.Hour}})
	return w
}

func (w *world) send(in Input) {
	for more := true; more; {
		in.At = w.now
		s, d := Step(&w.p, w.s, in)
		w.s, w.wake, w.looks = s, d.Wake, d.Looks
		if broken := violated(w, in, d); w.check != nil {
			w.check(w, d, broken)
		}
		w.apply(d)
		more = d.Wake <= w.now && !w.exited
		in = Input{Kind: Tick}
	}
}

func (w *world) apply(d Decision) {
	if d.From != d.To {
		w.note("%s -> %s: %s", d.From, d.To, d.Why.Text(&w.p))
	}
	for id := ID(0); id <= Stranger; id++ {
		if d.Would.Has(id) {
			w.note("would answer %s", w.p.Name(id))
		}
		if d.Release.Has(id) {
			w.note("answer %s", w.p.Name(id))
			w.answered[id] = w.now
			if id == agent && w.signals {
				w.signalAt = w.now + 10*time.Millisecond
			}
			if id < MaxContainers && w.endsAfter[id] >= 0 && d.Verdict != ContainerRestart {
				w.endAt[id] = w.now + w.endsAfter[id]
			}
		}
	}
	if d.Do != 0 {
		w.note("do %v", d.Do)
	}
	if d.Verdict != None {
		w.note("verdict %s", d.Verdict)
		w.verdicts = append(w.verdicts, d.Verdict)
	}
	if d.Exit && !w.exited {
		w.exited = true
		w.note("exit %d", w.s.Ending.ExitCode())
	}
	if d.Sample {
		w.lookedAt = [4]time.Duration{-time.Hour, -time.Hour, -time.Hour, -time.Hour}
		w.poll()
	}
	(d.Do &^ w.actHangs).Each(func(a Actions) {
		ok := w.actFails&a == 0
		if ok {
			w.done |= a
		}
		w.send(Input{Kind: Acted, Action: a, OK: ok})
	})
}

func (w *world) note(format string, args ...any) {
	line := fmt.Sprintf("%8.3fs  %s", w.now.Seconds(), fmt.Sprintf(format, args...))
	w.events = append(w.events, line)
	fmt.Fprintln(&w.log, line)
}

// poll gives the core one reading of every source.
func (w *world) poll() {
	if w.exited {
		return
	}
	if w.onPoll != nil {
		w.onPoll(w)
	}
	for i := range w.p.Containers {
		if w.endAt[i] != 0 && w.now >= w.endAt[i] {
			if w.live[i] = Gone; ID(i) == app && w.s.told(app) && !w.pageStays {
				w.app = Count{} // its page goes with it
			}
		}
	}
	if w.due(watchPoller) {
		w.looked(watchPoller)
		for i := range w.p.Containers {
			w.send(Input{Kind: Seen, Container: ID(i), Live: w.live[i]})
		}
	}
	now := look{w.now, 0, 0, w.now, w.now, w.proxy, w.app, w.conns, w.newConns, w.rqs, w.sockConns, w.sockNew, w.buffered, w.queued, w.sockData}
	for poller, late := range w.late {
		if w.coming[poller] == (look{}) && w.now >= w.nextLook[poller] && w.due(poller) {
			w.looked(poller)
			seen := now
			seen.due, seen.every = w.now+late, max(w.pace(poller).Every(w.every), 20*late)
			if poller == proxyPoller {
				seen = w.sparingly(seen)
			}
			w.coming[poller], w.nextLook[poller] = seen, w.now+20*late
		}
	}
	w.report()
}

// sparingly replaces what the statistics say by what they said when they were read last. A zero is as old as they are; what the
// hosts have is not.
func (w *world) sparingly(now look) look {
	now.every = max(now.every, w.rare)
	if w.stats == (look{}) || w.now >= w.stats.at+w.rare {
		w.stats = now
		return now
	}
	now.statsAt, now.conns, now.newConns, now.rqs = w.stats.at, w.stats.conns, w.stats.newConns, w.stats.rqs
	if now.proxy == Known(0) {
		now.zeroAt, now.proxy = w.stats.at, w.stats.proxy
	}
	return now
}

// The pollers of a world.
const (
	proxyPoller = iota
	socketPoller
	appPoller
	watchPoller
)

// pace is how often a poller looks; all app sources of a world are one.
func (w *world) pace(poller int) Pace {
	return [...]Pace{w.looks.Proxy, w.looks.Sockets, w.looks.Apps[0], w.looks.Watches}[poller]
}

func (w *world) due(poller int) bool {
	return w.now >= w.lookedAt[poller]+w.pace(poller).Every(w.every)
}

func (w *world) looked(poller int) { w.lookedAt[poller], w.reads[poller] = w.now, w.reads[poller]+1 }

// report gives the core every look that is due.
func (w *world) report() {
	for poller, l := range w.coming {
		if l == (look{}) || l.due > w.now {
			continue
		}
		w.coming[poller] = look{}
		switch poller {
		case proxyPoller:
			w.send(w.sampled(l))
		case socketPoller:
			w.send(Input{Kind: SocketsSampled, Sockets: SocketSample{Conns: l.reading(l.sockConns), NewConns: l.reading(l.sockNew), Data: l.reading(l.sockData), Bytes: l.reading(l.queued)}})
		case appPoller:
			for i := range w.p.Sources {
				w.send(Input{Kind: AppSampled, Source: i, InFlight: l.reading(l.app), Closed: !l.app.Known && w.live[app] == Gone && !w.appHangs})
			}
		}
	}
}

func (w *world) sampled(l look) Input {
	return Input{Kind: ProxySampled, At: w.now, Proxy: ProxySample{
		InFlight: l.dated(l.proxy, l.zeroAt), Conns: l.dated(l.conns, l.statsAt), NewConns: l.dated(l.newConns, l.statsAt), Requests: l.dated(l.rqs, l.statsAt), Bytes: l.reading(l.buffered),
	}}
}

func (l look) reading(c Count) Reading { return l.dated(c, l.at) }

func (l look) dated(c Count, at time.Duration) Reading {
	return Reading{Count: c, At: at, Every: l.every}
}

// arrive lets one client connect and send a request that is over at once.
func (w *world) arrive() {
	w.newConns.N, w.sockNew.N, w.rqs.N, w.arrivedAt = w.newConns.N+1, w.sockNew.N+1, w.rqs.N+1, w.now
}

func (w *world) hook(id ID) {
	w.note("hook %s", w.p.Name(id))
	w.calledAt[id] = w.now
	w.send(Input{Kind: HookCalled, Container: id})
}

func (w *world) sigterm() {
	w.note("SIGTERM")
	w.send(Input{Kind: Terminated})
}

// run lets time pass until the given time, or until stop says so.
func (w *world) run(until time.Duration, stop func() bool) {
	for w.now < until && !w.exited && (stop == nil || !stop()) {
		next := min(until, w.wake)
		if w.signalAt != 0 {
			next = min(next, w.signalAt)
		}
		reading := w.looks != Looks{}
		if reading {
			next = min(next, w.nextPoll)
		}
		for _, l := range w.coming {
			if l != (look{}) {
				next = min(next, l.due)
			}
		}
		w.now = max(next, w.now+time.Microsecond)
		if w.signalAt != 0 && w.now >= w.signalAt {
			w.signalAt = 0
			w.sigterm()
		}
		if w.wake <= w.now {
			w.send(Input{Kind: Tick})
		}
		w.report()
		if reading && w.now >= w.nextPoll {
			w.nextPoll = w.now + w.every
			w.poll()
		}
	}
}

// stop calls all hooks as kubelet does.
func (w *world) stop() {
	for id := range w.p.Containers {
		if w.p.Hooks.Has(ID(id)) {
			w.hook(ID(id))
		}
	}
}
