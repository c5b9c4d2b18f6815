package replay

import (
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// began is when a replay's pod is told to stop, counted from its agent's start: any time will do.
const began = time.Minute

// speaks is how long after the recorded release the last readings before it speak for the moment, as they do for the core.
const speaks = 500 * time.Millisecond

// poll is the shortest time between two readings, as --poll has it.
const poll = 25 * time.Millisecond

// world shows the core what was recorded, as often as the core wants to look.
type world struct {
	recorded *Recorded
	p        *drain.Policy
	s        drain.State
	d        drain.Decision
	now      time.Duration
	read     [3]time.Duration // when the proxy, the app and the sockets were read last
}

// run plays until the first hook is answered or the recording is over: what was read of a pod whose containers end says nothing of one
// whose containers do not.
func (w *world) run() (release time.Duration, deadline, over bool) {
	end := began + w.recorded.release + speaks
	w.now = began
	w.step(drain.Input{Kind: drain.Described, Facts: drain.ProxyFacts{Known: true, Directed: true, Requests: true, Uptime: began}})
	for id := range w.p.Containers {
		w.step(drain.Input{Kind: drain.HookCalled, Container: drain.ID(id), Authentic: true})
	}
	w.s.Load = drain.Load{PerSecond: w.recorded.perSecond, Known: true, Conns: w.recorded.arrivals[0][3], ConnsOK: true, Requests: w.reading(0, poll)}
	for w.s.Phase < drain.Stopping {
		if w.now > end {
			return w.now - began, false, false
		}
		if w.look(); w.s.Phase >= drain.Stopping {
			break
		}
		next := w.d.Wake
		for i := range w.read {
			next = min(next, w.read[i]+w.every(i))
		}
		if w.now = max(w.now+time.Millisecond, next); w.now >= w.d.Wake {
			w.step(drain.Input{Kind: drain.Tick})
		}
	}
	return w.now - began, w.s.Ending == drain.Deadline, true
}

func (w *world) step(in drain.Input) {
	for {
		in.At = w.now
		w.s, w.d = drain.Step(w.p, w.s, in)
		if w.d.Do != 0 {
			do := w.d.Do
			do.Each(func(one drain.Actions) { w.step(drain.Input{Kind: drain.Acted, Action: one, OK: true}) })
		}
		if w.d.Sample {
			w.read = [3]time.Duration{}
		}
		if w.d.Wake > w.now || w.s.Phase >= drain.Stopping {
			return
		}
		in = drain.Input{Kind: drain.Tick}
	}
}

func (w *world) reading(n int64, every time.Duration) drain.Reading {
	return drain.Reading{Count: drain.Known(n), At: w.now, Every: every}
}

// every is how often the core wants to look at the proxy, the app, the sockets.
func (w *world) every(i int) time.Duration {
	return [3]drain.Pace{w.d.Looks.Proxy, w.d.Looks.Apps[0], w.d.Looks.Sockets}[i].Every(poll)
}

// look gives the readings that are due.
func (w *world) look() {
	r, t := w.recorded, min(w.now-began, w.recorded.release)
	came, flying := r.at(t), r.flying(t)
	for i := range w.read {
		every := w.every(i)
		if w.now < w.read[i]+every || w.s.Phase >= drain.Stopping {
			continue
		}
		w.read[i] = w.now
		switch i {
		case 0:
			w.step(drain.Input{Kind: drain.ProxySampled, Proxy: drain.ProxySample{
				InFlight: w.reading(flying, every), Conns: w.reading(came[2], every), NewConns: w.reading(came[1], every), Requests: w.reading(came[0], every), Bytes: w.reading(0, every),
			}})
		case 1:
			w.step(drain.Input{Kind: drain.AppSampled, InFlight: w.reading(flying, every)})
		case 2:
			w.step(drain.Input{Kind: drain.SocketsSampled, Sockets: drain.SocketSample{
				Conns: w.reading(came[2], every), NewConns: w.reading(came[1], every), Bytes: w.reading(0, every), Stalled: w.reading(0, every),
			}})
		}
	}
}
