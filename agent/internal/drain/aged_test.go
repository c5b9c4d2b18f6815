package drain

import (
	"strings"
	"testing"
)

// While Envoy's statistics are not read anew each look repeats them; the request that they show once came once.
func TestRepeatedReadingIsNoArrival(t *testing.T) {
	w := newWorld(Defaults())
	w.sockConns, w.sockNew = Known(0), Known(0)
	w.rare = 700 * ms
	w.run(10*sec, nil)
	w.stop()
	w.run(11*sec, nil)
	w.rqs.N++ // on a connection that no look at the sockets saw
	w.run(20*sec, nil)
	if w.s.Peers.Count != 1 {
		t.Errorf("%d new connections, want the one that brought the request\n%s", w.s.Peers.Count, strings.Join(w.events, "\n"))
	}
}

// A zero that rests on statistics read before the settling began settles nothing, however often it is repeated.
func TestAgedZeroSettlesNothing(t *testing.T) {
	w := newWorld(Defaults())
	w.rare = 3 * sec
	w.check = func(w *world, d Decision, broken string) {
		if broken != "" {
			t.Fatalf("at %v: %s", w.now, broken)
		}
	}
	w.app = Known(1)
	w.run(10*sec, nil)
	w.stop()
	w.run(19*sec+100*ms, nil)
	w.app = Known(0) // shortly after the statistics were read
	w.run(60*sec, nil)
	expect(t, w.events, []string{"draining -> settling", "settling -> stopping", "verdict clean"})
}
