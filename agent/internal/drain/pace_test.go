package drain

import (
	"fmt"
	"testing"
	"time"
)

// Reading rarely what decides nothing costs no time: whoever ends last, and whenever, the app is let go one steady look and the settle
// time later.
func TestTheLastZeroIsSeenSoon(t *testing.T) {
	for _, pushed := range []uint32{0, 1} {
		for first := 2 * time.Second; first < 4*time.Second; first += 170 * time.Millisecond {
			for _, gap := range []time.Duration{-3 * time.Second, -40 * time.Millisecond, 0, 10 * time.Millisecond, 90 * time.Millisecond, 4 * time.Second} {
				t.Run(fmt.Sprintf("pushed=%d proxy=%v app=%v later", pushed, first, gap), func(t *testing.T) {
					w := newWorld(Defaults())
					w.p.Pushed = pushed
					w.proxy, w.app = Known(1), Known(1)
					w.run(10*time.Second, nil)
					w.stop()
					proxyEnds, appEnds := w.now+first+3*time.Second, w.now+first+3*time.Second+gap
					w.onPoll = func(w *world) {
						w.proxy, w.app = Known(b2i(w.now < proxyEnds)), Known(b2i(w.now < appEnds))
					}
					w.run(w.now+20*time.Second, func() bool { return w.answered[0] > 0 })
					lag := w.answered[0] - max(proxyEnds, appEnds) - w.p.Settle
					if limit := Steadily.Every(w.every) + 2*w.every; lag < 0 || lag > limit {
						t.Errorf("let go %v after the last zero had settled, want at most %v\n%s", lag, limit, w.log.String())
					}
				})
			}
		}
	}
}

func b2i(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// What is read of a pod with one long request, from the phases before on.
func TestOneSourceInFlightIsEnoughToRead(t *testing.T) {
	perSecond := func(pushed uint32, proxy, app int64) [4]int {
		w := newWorld(Defaults())
		w.p.Pushed = pushed
		w.proxy, w.app = Known(proxy), Known(app)
		w.run(10*time.Second, nil)
		w.stop()
		w.run(w.now+5*time.Second, nil)
		w.reads = [4]int{}
		w.run(w.now+10*time.Second, nil)
		for i := range w.reads {
			w.reads[i] /= 10
		}
		return w.reads
	}
	for name, tt := range map[string]struct {
		pushed     uint32
		proxy, app int64
		want       [4]int // proxy, sockets, app, watches
	}{
		"both have something":         {0, 1, 1, [4]int{13, 1, 1, 3}},
		"the app alone":               {0, 0, 1, [4]int{3, 1, 13, 3}},
		"both, and the app says when": {1, 1, 1, [4]int{3, 1, 13, 3}},
		"the proxy alone":             {1, 1, 0, [4]int{13, 1, 1, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := perSecond(tt.pushed, tt.proxy, tt.app); got != tt.want {
				t.Errorf("read %v times a second, want %v", got, tt.want)
			}
		})
	}
}
