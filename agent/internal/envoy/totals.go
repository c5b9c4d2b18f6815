package envoy

import (
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// totals are the statistics as of the last time they were read, and the counters since the beginning.
type totals struct {
	allowance               allowance
	http, conns, upgrades   drain.Count
	newConns, newRequests   drain.Count
	opened, requests, hosts counter
	errors                  counter
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
	values, err := r.read(p, "Gauges", names)
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
