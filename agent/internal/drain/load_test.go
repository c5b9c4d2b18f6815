package drain

import (
	"testing"
	"time"
)

// A kubelet may start agent and Envoy once more in a pod that is about to end: the stop comes before anything was looked at, and
// the age that Envoy tells is 0 s. Its counter at the first look decides all the same.
func TestLoadOfAnEnvoyThatHasJustStarted(t *testing.T) {
	for name, c := range map[string]struct {
		age       time.Duration
		requests  int64
		late      bool // the age is told only after the first look
		perSecond float64
	}{
		"no request":                 {perSecond: 0},
		"no request, told late":      {late: true, perSecond: 0},
		"requests":                   {requests: 3, perSecond: 3000},
		"requests, told late":        {requests: 3, late: true, perSecond: 3000},
		"an older one":               {age: 10 * sec, requests: 30, perSecond: 3},
		"an older one, told late":    {age: 10*sec + 50*ms, requests: 30, late: true, perSecond: 3},
		"told before it had started": {age: -sec, requests: 1, perSecond: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			p := Defaults()
			s := State{Phase: Draining, T0: sec, Now: 2 * sec}
			facts := func() { s.Facts, s.FactsAt = ProxyFacts{Known: true, Uptime: c.age}, s.Now }
			if !c.late {
				facts()
			}
			s.Proxy.Requests = Reading{Count: Known(c.requests), At: s.Now}
			s.takeLoad(&p)
			if s.Load.Known == c.late {
				t.Fatalf("after the first look the load is known: %v", s.Load.Known)
			}
			if c.late {
				s.Now += 50 * ms
				facts()
				s.Proxy.Requests = Reading{Count: Known(c.requests + 100), At: s.Now} // of the drain, not of the load
				s.takeLoad(&p)
			}
			if got := s.Load.PerSecond; !s.Load.Known || got != c.perSecond {
				t.Errorf("%v requests/s, known %v; want %v", got, s.Load.Known, c.perSecond)
			}
		})
	}
}
