package conductor

import (
	"maps"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// What a client did not take is named in bytes: what stood still, wherever it stood, and what a deadline cut off.
func TestCutBytes(t *testing.T) {
	for name, tt := range map[string]struct {
		own      drain.Count // in Envoy's buffers
		sockets  SocketsLook
		then     func(p *pod)
		outcome  string
		want     map[string]int64
		noLonger time.Duration // the drain must not take longer
	}{
		"nothing": {
			own: drain.Known(0), sockets: SocketsLook{Bytes: drain.Known(0), Stalled: drain.Known(0)}, outcome: "clean", noLonger: 4 * time.Second,
		},
		"it stood still in a socket": {
			own: drain.Known(0), sockets: SocketsLook{Bytes: drain.Known(0), Stalled: drain.Known(3_700_000)},
			outcome: "clean", want: map[string]int64{"bytes": 3_700_000}, noLonger: 4 * time.Second,
		},
		"it stood still in Envoy": {
			own: drain.Known(834_465), sockets: SocketsLook{Bytes: drain.Known(0), Stalled: drain.Known(0)},
			outcome: "clean", want: map[string]int64{"bytes": 834_465}, noLonger: 7 * time.Second,
		},
		"it stood still in both": {
			own: drain.Known(900_000), sockets: SocketsLook{Bytes: drain.Known(0), Stalled: drain.Known(50)},
			outcome: "clean", want: map[string]int64{"bytes": 900_050}, noLonger: 7 * time.Second,
		},
		"what stood still was taken in the end": {
			own: drain.Known(0), sockets: SocketsLook{Bytes: drain.Known(0), Stalled: drain.Known(50)},
			then: func(p *pod) { p.sockets.Stalled = drain.Known(0) }, outcome: "clean", noLonger: 4 * time.Second,
		},
		"it was on its way at the deadline": {
			own: drain.Known(0), sockets: SocketsLook{Bytes: drain.Known(40), Stalled: drain.Known(2)},
			outcome: "deadline", want: map[string]int64{"bytes": 42}, noLonger: 30 * time.Second,
		},
		"nobody could count it": {
			sockets: SocketsLook{}, outcome: "clean", noLonger: 18 * time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, p *pod) {
				p.proxyLook.Bytes, p.sockets = tt.own, tt.sockets
				p.stopped()
				if tt.then != nil {
					p.until("the app is let go", func() bool { return p.said("answer app") })
					p.set(func() { tt.then(p) })
				}
				p.code()
				v := p.verdict()
				if v.Outcome != tt.outcome || !maps.Equal(v.Cut, tt.want) {
					t.Errorf("%s, cut %v; want %s, %v", v.Outcome, v.Cut, tt.outcome, tt.want)
				}
				if took := time.Duration(v.TotalMS) * time.Millisecond; took > tt.noLonger {
					t.Errorf("it took %v, want %v at most", took, tt.noLonger)
				}
			})
		})
	}
}
