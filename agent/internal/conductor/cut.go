package conductor

import (
	"maps"
	"slices"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// load is what one source last said was in flight.
type load struct {
	drain.Reading
	classes map[string]int64 // the part whose class the source tells
	errors  drain.Count      // what had failed behind the proxy by then, as far as was known
}

const (
	classRequests = "requests" // of Envoy: what fails with an answer, and is counted then
	proxyErrors   = "proxy errors"
	cutBytes      = "bytes"

	breaksOffIn = time.Second // an Envoy that was told to end answers no longer than that
)

// cuts remembers the last readings before processes end. It outlives no drain that began later: readings carry their time.
type cuts struct {
	proxy load
	apps  map[int]load      // by source
	alive map[drain.ID]load // the proxy's, when that container was last seen to be there: its end breaks that off at once

	own     drain.Reading      // bytes in Envoy's buffers
	sockets drain.SocketSample // the newest that could be read
	stalled int64              // bytes that stood still when the proxy was last seen to be there

	late *message // a lower reading of an Envoy that breaks off what it has: believed once that has answered for so long after it

	errors drain.Reading // the newest that could be read; another rung may say what is in flight when theirs is given up
	before drain.Count   // errors at the first look at the proxy after the stop began
}

func newCuts() cuts {
	return cuts{apps: map[int]load{}, alive: map[drain.ID]load{}}
}

// note takes what an input says. A reading that failed leaves the last word to the one before it, and so does a lower one of an Envoy that
// breaks off what it has, unless that still answers long after it: then it had not been told to end yet.
func (k *cuts) note(m message, breaksOff bool) {
	switch m.Kind {
	case drain.ProxySampled:
		if breaksOff {
			k.last(&m)
		} else {
			k.late = nil
			k.takeRequests(&m)
			k.takeBytes(&m)
		}
	case drain.SocketsSampled:
		if m.Sockets.Bytes.Known {
			k.sockets = m.Sockets
		}
	case drain.AppSampled:
		if m.InFlight.Known {
			k.apps[m.Source] = load{Reading: m.InFlight, classes: m.classes}
		}
	case drain.Seen:
		if m.Live == drain.Up || m.Live == drain.Leaving {
			k.alive[m.Container] = k.proxy
			k.stalled = k.sockets.Stalled.N
		}
	default:
	}
}

// last notes what an Envoy says that is told to end, or will be.
func (k *cuts) last(m *message) {
	n, b := m.Proxy.InFlight, m.Proxy.Bytes
	if n.N >= k.proxy.N {
		k.takeRequests(m)
	}
	if b.N >= k.own.N {
		k.takeBytes(m)
	}
	late := k.late
	switch {
	case n.Known && n.N < k.proxy.N, b.Known && b.N < k.own.N:
		if late != nil && n.At-late.Proxy.InFlight.At < breaksOffIn {
			return
		}
		if k.late = m; late != nil {
			k.takeRequests(late)
			k.takeBytes(late)
		}
	default:
		k.late = nil
	}
}

func (k *cuts) takeRequests(m *message) {
	n := m.Proxy.InFlight
	if !n.Known {
		return
	}
	if m.errors.Known {
		k.errors = drain.Reading{Count: m.errors, At: n.At}
	}
	k.proxy = load{n, m.classes, k.errors.Count}
	if !k.before.Known {
		k.before = m.errors
	}
}

func (k *cuts) takeBytes(m *message) {
	if b := m.Proxy.Bytes; b.Known {
		k.own = b
	}
}

// breaksOff reports whether Envoy had been told to stop before this input, and does so at once: what it then answers counts what it broke off as
// finished.
func (c *Conductor) breaksOff(before *[drain.MaxContainers + 1]drain.Hook) bool {
	proxy := c.cfg.Policy.Proxy()
	return proxy != drain.Nobody && before[proxy].Released && !c.cfg.Policy.Observe && !c.state.Facts.Lingers
}

// seenAt is when both what the proxy had in flight and what had failed behind it were read last.
func (k *cuts) seenAt() time.Duration {
	if k.errors.Known {
		return min(k.proxy.At, k.errors.At)
	}
	return k.proxy.At
}

// cut names what was in flight in each process when it ended, or now where that is not seen: the container, and the class
// where the source tells it. A source counts when it could be read at the time its container was let go, or later. In observe mode
// the app stops while requests still come: those that failed behind Envoy are named too, each of them once on the proxy's side, the
// side that clients see.
func (c *Conductor) cut() map[string]int64 {
	k, s, p := &c.track.cuts, &c.state, &c.cfg.Policy
	out := map[string]int64{}
	own := map[drain.ID]int64{}
	for i, source := range c.cfg.World.Apps {
		l := k.apps[i]
		if l.Fresh(c.letGo(source.Container)) {
			own[source.Container] += l.N
			l.addTo(out, p.Name(source.Container))
		}
	}
	var most load // of what Envoy had when it ended, or one behind it did
	if l := k.proxy; l.Fresh(c.letGo(p.Proxy())) {
		most = l
	}
	for id, l := range k.alive {
		if n, known := own[id]; known && n == 0 || s.Hooks[id].Live != drain.Gone || !c.behindProxy(id) || !l.Fresh(s.Hooks[id].UpAt) {
			continue // where the app had finished, Envoy was sending the last bytes
		}
		if p.Observe {
			l = l.less(k.proxy.since(l.errors))
		}
		if l.N > most.N || l.N == most.N && len(l.classes) > len(most.classes) {
			most = l
		}
	}
	most.addTo(out, "proxy")
	if n := c.cutBytes(); n > 0 {
		out[cutBytes] = n
	}
	if n := k.proxy.since(k.before); p.Observe && n > 0 {
		out[proxyErrors] = n
	}
	return out
}

// cutBytes is how many bytes did not reach their clients: what stood still while the processes were there, what was in Envoy's buffers
// when it was let go, and, where the drain did not wait for it, what is still on its way.
func (c *Conductor) cutBytes() int64 {
	k := &c.track.cuts
	at := c.letGo(c.cfg.Policy.Proxy())
	n := int64(0)
	if k.sockets.Bytes.Fresh(at) {
		if n = max(k.stalled, k.sockets.Stalled.N); c.state.Ending != drain.Clean {
			n += k.sockets.Bytes.N
		}
	}
	if k.own.Fresh(at) {
		n += k.own.N
	}
	return n
}

// since is how much has failed since that count; zero when one of them is not known.
func (l load) since(before drain.Count) int64 {
	if !l.errors.Known || !before.Known {
		return 0
	}
	return l.errors.N - before.N
}

// less takes away requests that are counted as errors.
func (l load) less(errors int64) load {
	requests := l.N
	for class, n := range l.classes {
		if class != classRequests {
			requests -= n
		}
	}
	errors = min(errors, requests)
	l.N -= errors
	if len(l.classes) == 0 {
		return l
	}
	l.classes = maps.Clone(l.classes)
	if l.classes[classRequests] -= errors; l.classes[classRequests] <= 0 {
		delete(l.classes, classRequests)
	}
	return l
}

// behindProxy reports whether requests may end with this container: it is counted, or nobody is.
func (c *Conductor) behindProxy(id drain.ID) bool {
	counted := slices.ContainsFunc(c.cfg.World.Apps, func(a AppSource) bool { return a.Container == id })
	return id != c.cfg.Policy.Proxy() && (counted || len(c.cfg.World.Apps) == 0)
}

// letGo is when a container's hook was answered; when all began to be, where it has none.
func (c *Conductor) letGo(id drain.ID) time.Duration {
	if id <= drain.Stranger && c.state.Hooks[id].Released {
		return c.state.Hooks[id].AnsweredAt
	}
	return c.track.stopping
}

// addTo adds the load to what is named so far.
func (l load) addTo(out map[string]int64, who string) {
	rest := l.N
	for class, n := range l.classes {
		out[who+" "+class] += n
		rest -= n
	}
	if rest > 0 {
		out[who] += rest
	}
}
