package envoy

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// lostFor is how long a host that was taken away with requests at it keeps a zero from being believed when no gauge shows whether
// they have ended. Hosts come and go all the time at a gateway: without a bound, one of them would hold every drain to its deadline.
const lostFor = 15 * time.Second

// place is where one host is listed.
type place struct {
	cluster, ip, pipe string
	port              uint32
}

func placeOf(cluster string, h *host) place { return place{cluster, h.ip, h.pipe, h.port} }

// lost remembers which hosts had something under way, and that one of them is no longer listed: what goes on there no host's gauge shows.
type lost struct {
	busy    map[place]bool // as of the newest reading
	conns   []string       // the gauges of the listeners' connections then
	at      time.Time      // when a busy host was missed last; zero when none is
	cluster string         // its cluster
}

// missing are the hosts that a reading has to find again.
func (l *lost) missing() map[place]bool { return maps.Clone(l.busy) }

func (l *lost) see(now time.Time, sums *hostSums, v *view) {
	for place := range sums.missing {
		l.at, l.cluster = now, place.cluster
	}
	l.busy = sums.busyAt
	if l.at.IsZero() {
		l.conns = v.conns
	}
}

// end forgets what was missed when no connection is open any more at the listeners there were then.
func (l *lost) end(conns drain.Count, v *view) {
	if conns == drain.Known(0) && slices.Equal(l.conns, v.conns) {
		l.at = time.Time{}
	}
}

// holds says why a zero of the hosts is not to be believed, nil when it is.
func (l *lost) holds(now time.Time) error {
	if l.at.IsZero() || now.Sub(l.at) >= lostFor {
		l.at = time.Time{}
		return nil
	}
	return fmt.Errorf("a host of cluster %s was taken away with requests at it: what is in flight is unknown until no connection is open, for %v at most; "+
		"let the stats_matcher show http.*.downstream_rq_active", l.cluster, lostFor)
}
