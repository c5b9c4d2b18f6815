package envoy

import (
	"slices"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// totals are the statistics as of the last time they were read, and the counters since the beginning.
type totals struct {
	allowance               allowance
	read                    bool // the last time, not given up
	http, conns, upgrades   drain.Count
	apart, bytes            drain.Count
	unanswered              drain.Count // of http, at most: those whose answer has not begun
	silent                  silentEnds
	newConns, newRequests   drain.Count
	opened, requests, hosts counter
	errors                  counter
}

// forget makes the statistics unknown; the counters go on.
func (t *totals) forget() {
	t.http, t.conns, t.upgrades, t.apart = drain.Count{}, drain.Count{}, drain.Count{}, drain.Count{}
	t.bytes, t.unanswered, t.newConns, t.newRequests = drain.Count{}, drain.Count{}, drain.Count{}, drain.Count{}
}

// silentEnds is how many requests ended without an answer, at least: that is what came, less what was answered and what is there.
type silentEnds struct {
	names []string // of the counters that say so
	n     int64
}

// unanswered is how many of the requests that are there have no answer that has begun, at most.
func (e *silentEnds) unanswered(names []string, came, answered, there drain.Count) drain.Count {
	if !came.Known || !answered.Known || !there.Known {
		return drain.Count{}
	}
	if open := came.N - answered.N; !slices.Equal(e.names, names) || open < e.n { // other counters, or another process
		*e = silentEnds{names, max(0, open-there.N)}
	} else {
		e.n = max(e.n, open-there.N)
	}
	return drain.Known(came.N - answered.N - e.n)
}

// counter keeps a sum of counters from decreasing when a host is removed, somebody resets the counters or Envoy restarts.
type counter struct {
	last drain.Count
	raw  int64
}

func (t *counter) add(raw int64) drain.Count {
	t.last = drain.Known(t.last.N + max(0, raw-t.raw))
	t.raw = raw
	return t.last
}

func (t *counter) count(raw drain.Count) drain.Count {
	if !raw.Known {
		return raw
	}
	return t.add(raw.N)
}

// flushed remembers since when server.total_connections has been zero at every flush.
type flushed struct{ zeroSince, at time.Time }

const totalConnections = "server.total_connections"

// flushed reads the last rung. Envoy writes it at the stats flush only, so a zero is believed when it has stood for two flushes.
// It counts outbound, health and metrics connections too.
func (r *reading) flushed() error {
	f, p := &r.c.flush, &r.c.price.flush
	names := []string{totalConnections}
	values, err := r.read(p, names)
	n, found := values[totalConnections]
	if !found {
		f.zeroSince = time.Time{}
		return err
	}
	if n > 0 {
		f.zeroSince = time.Time{}
	} else if f.zeroSince.IsZero() || r.now.Sub(f.at) > flushPace/2 { // what was flushed between two rare looks nobody knows
		f.zeroSince = r.now
	}
	f.at = r.now
	if n > 0 || r.now.Sub(f.zeroSince) >= flushPace {
		r.out.InFlight, r.out.Rung = drain.Known(n), "total_connections"
	}
	return nil
}
