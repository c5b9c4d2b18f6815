package traffic

import (
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// A connection that stands still and is closed by this side stands still all the same: its FIN is no progress.
func TestStalledConnectionThatIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFollower([]uint16{port}, open|closing|closed)
		f.own = func() map[endpoint]bool { return nil }
		at := func(state uint8, unsent uint32) tally {
			s := conn(port, 1, 40000, state)
			s.unsent = unsent
			return f.merge([]socket{listener, s})
		}
		at(stateEstablished, 70_000)
		time.Sleep(drain.StallAfter - time.Second)
		if got := at(stateEstablished, 70_000); got.moving != 70_000 {
			t.Fatalf("before it counts as stalled: %+v", got)
		}
		for what, state := range map[string]uint8{"FIN_WAIT1": stateFinWait1, "CLOSING": stateClosing, "LAST_ACK": stateLastAck} {
			g := *f
			g.seen = map[pair]mark{}
			maps.Copy(g.seen, f.seen)
			s := conn(port, 1, 40000, state)
			s.unsent = 70_001
			if got := g.merge([]socket{listener, s}); got.moving != 70_000 {
				t.Errorf("%s: %+v, want the bytes without the FIN", what, got)
			}
			time.Sleep(time.Second)
			if got := g.merge([]socket{listener, s}); got.moving != 0 || got.stalled != 70_000 {
				t.Errorf("%s, a second later: %+v, want it stalled", what, got)
			}
			f.seen = map[pair]mark{s.pair: {look: f.looks, open: true, unsent: 70_000, moved: time.Now().Add(time.Second - drain.StallAfter)}}
		}
	})
}
