package drain

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// pool is a set of kept-alive connections and how their clients come back.
type pool struct {
	name    string
	conns   int
	reuse   time.Duration // mean time between two uses of one connection; 0: never used again
	poisson bool
	burst   bool          // all at the same time
	lateBy  time.Duration // the balancer sends new connections, two a second, for so long after T0
	loss    float64       // mean loss that the defaults must stay below
	atMost  time.Duration // mean stop time that the defaults must stay below
}

var pools = []pool{
	{name: "no connections", loss: 0, atMost: 1800 * ms},
	{name: "300 never used again", conns: 300, loss: 0, atMost: 1800 * ms},
	{name: "5 at 30 s, periodic", conns: 5, reuse: 30 * sec, loss: 0.05, atMost: 17 * sec},
	{name: "10 at 1 s, periodic", conns: 10, reuse: sec, loss: 0.02, atMost: 4 * sec},
	{name: "10 at 1 s, Poisson", conns: 10, reuse: sec, poisson: true, loss: 0.05, atMost: 8 * sec},
	{name: "50 at 5 s, periodic", conns: 50, reuse: 5 * sec, loss: 0.05, atMost: 8 * sec},
	{name: "50 at 5 s, Poisson", conns: 50, reuse: 5 * sec, poisson: true, loss: 0.2, atMost: 17 * sec},
	{name: "100 at 3 s, periodic", conns: 100, reuse: 3 * sec, loss: 0.05, atMost: 6 * sec},
	{name: "100 at 10 s in bursts", conns: 100, reuse: 10 * sec, burst: true, loss: 0.05, atMost: 17 * sec},
	{name: "300 at 10 s, periodic", conns: 300, reuse: 10 * sec, loss: 0.05, atMost: 13 * sec},
	{name: "300 at 10 s, Poisson", conns: 300, reuse: 10 * sec, poisson: true, loss: 1.5, atMost: 17 * sec},
	{name: "1000 at 60 s, periodic", conns: 1000, reuse: 60 * sec, loss: 5, atMost: 17 * sec},
	{name: "balancer 4 s late", lateBy: 4 * sec, loss: 0.1, atMost: 9 * sec},
}

const (
	warmUp  = 130 * time.Second
	exposed = 100 * time.Millisecond // how long a client can really hit an app that exits at once (measured: 50 to 150 ms)
)

// clients drives a pool against a world: a connection that is used while Envoy drains is told to close and goes elsewhere.
type clients struct {
	pool
	rng  *rand.Rand
	next []time.Duration // of each open connection; Never for one that is not used again
	rqs  int64
	cxs  int64
	late time.Duration
}

func newClients(p pool, seed uint64) *clients {
	c := &clients{pool: p, rng: rand.New(rand.NewPCG(seed, 1)), cxs: int64(p.conns)}
	for range p.conns {
		first := time.Duration(c.rng.Float64() * float64(p.reuse))
		switch {
		case p.reuse == 0:
			first = Never
		case p.burst:
			first = p.reuse + time.Duration(c.rng.Float64()*float64(200*ms))
		}
		c.next = append(c.next, first)
	}
	return c
}

func (c *clients) pause() time.Duration {
	switch {
	case c.poisson:
		return time.Duration(c.rng.ExpFloat64() * float64(c.reuse))
	case c.burst:
		return c.reuse
	}
	return time.Duration((0.8 + 0.4*c.rng.Float64()) * float64(c.reuse))
}

// until lets the clients act up to the time now.
func (c *clients) until(w *world) {
	open := c.next[:0]
	for _, at := range c.next {
		for at <= w.now {
			c.rqs++
			if w.done&(FailHealth|DrainInbound) != 0 && at > w.s.Draining0 {
				at = -1
				break
			}
			at += c.pause()
		}
		if at >= 0 {
			open = append(open, at)
		}
	}
	c.next = open
	for ; c.late != 0 && c.late <= w.now && c.late < warmUp+c.lateBy; c.late += 300*ms + time.Duration(c.rng.Float64()*float64(400*ms)) {
		c.cxs++
		c.rqs++
	}
	w.conns, w.rqs, w.newConns = Known(int64(len(c.next))), Known(c.rqs), Known(c.cxs)
}

// hits is how many requests would meet the app between its answer and the time at which no client can reach it any more.
func (c *clients) hits(answered time.Duration) (lost int) {
	for _, at := range c.next {
		if at > answered && at <= answered+exposed {
			lost++
		}
	}
	for ; c.late != 0 && c.late < warmUp+c.lateBy && c.late <= answered+exposed; c.late += 500 * ms {
		lost++
	}
	return lost
}

// stopUnder plays one stop and returns how long the app's hook was held, what was lost and what was still open.
func stopUnder(p pool, policy Policy, seed uint64) (held time.Duration, lost, open int) {
	c := newClients(p, seed)
	w := newWorld(policy)
	w.send(Input{Kind: Described, Facts: ProxyFacts{Known: true, Directed: true, Uptime: ms}})
	w.onPoll = c.until
	w.run(warmUp, nil)
	if p.lateBy > 0 {
		c.late = warmUp
	}
	w.stop()
	w.run(warmUp+60*sec, func() bool { return w.answered[app] != 0 })
	return w.answered[app] - warmUp, c.hits(w.answered[app]), len(c.next)
}

// TestScoreCalibration plays simulated clients against the stopping score and prints mean stop time and loss per setting. It
// justifies the default of accept-loss. STOPS sets how many stops a cell has.
func TestScoreCalibration(t *testing.T) {
	stops := 12
	if text := os.Getenv("STOPS"); text != "" {
		var err error
		if stops, err = strconv.Atoi(text); err != nil {
			t.Fatalf("read STOPS: %v; want a number", err)
		}
	}
	settings := []float64{0.05, 0.02, 0.01}
	var table strings.Builder
	out := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprint(out, "pool")
	for _, accept := range settings {
		fmt.Fprintf(out, "\taccept-loss %v: stop / lost / open", accept)
	}
	fmt.Fprintln(out)
	for _, p := range pools {
		fmt.Fprint(out, p.name)
		for _, accept := range settings {
			policy := Defaults()
			policy.AcceptLoss = accept
			policy.Grace = 60 * sec
			held, lost, open := mean(stops, p, policy)
			fmt.Fprintf(out, "\t%.1f s / %.2f / %.0f", held.Seconds(), lost, open)
			if accept == Defaults().AcceptLoss && (lost > p.loss || held > p.atMost) {
				t.Errorf("%s at the default: %v, lost %.2f; want at most %v, %.2f", p.name, held, lost, p.atMost, p.loss)
			}
		}
		fmt.Fprintln(out)
	}
	out.Flush()
	t.Logf("mean of %d stops\n%s", stops, table.String())
}

func mean(stops int, p pool, policy Policy) (held time.Duration, lost, open float64) {
	for seed := range stops {
		h, l, o := stopUnder(p, policy, uint64(seed))
		held += h
		lost += float64(l)
		open += float64(o)
	}
	return held / time.Duration(stops), lost / float64(stops), open / float64(stops)
}

func TestScore(t *testing.T) {
	fresh := func(n int64) Reading { return Reading{Count: Known(n), At: 100 * sec} }
	tests := map[string]struct {
		load    Load
		open    Reading
		silence time.Duration
		streams Count // in flight, other than none
		known   bool
		want    float64
	}{
		"never used":               {load: Load{Known: true, Conns: 300, ConnsOK: true}, open: fresh(300), known: true, want: 0},
		"the rate bounds it":       {load: Load{Known: true, PerSecond: 0.5, Conns: 10, ConnsOK: true}, open: fresh(10), silence: 100 * ms, known: true, want: 0.1},
		"silence bounds it":        {load: Load{Known: true, PerSecond: 30, Conns: 300, ConnsOK: true}, open: fresh(300), silence: 10 * sec, known: true, want: 0.02},
		"only what is still open":  {load: Load{Known: true, PerSecond: 0.5, Conns: 10, ConnsOK: true}, open: fresh(1), silence: 100 * ms, known: true, want: 0.01},
		"open unknown: all of it":  {load: Load{Known: true, PerSecond: 0.5, Conns: 10, ConnsOK: true}, silence: 100 * ms, known: true, want: 0.1},
		"streams in flight":        {load: Load{Known: true, PerSecond: 0.5, Conns: 10, ConnsOK: true}, open: fresh(10), silence: 100 * ms, streams: Known(5), known: true, want: 5.1},
		"in flight unknown":        {load: Load{Known: true, PerSecond: 0.5, Conns: 10, ConnsOK: true}, open: fresh(10), streams: Count{N: 5}},
		"nobody can tell the rate": {load: Load{Conns: 10, ConnsOK: true}, open: fresh(10)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := Defaults()
			s := State{Now: 100 * sec, Load: tt.load}
			s.Proxy.Conns, s.Proxy.InFlight = tt.open, fresh(0)
			if tt.streams != (Count{}) {
				s.Proxy.InFlight.Count = tt.streams
			}
			s.Requests = Arrivals{Last: fresh(7), LastAt: s.Now - tt.silence}
			got, known := Score(&p, &s)
			if known != tt.known || known && (got < tt.want-1e-9 || got > tt.want+1e-9) {
				t.Errorf("score %v, %v; want %v, %v", got, known, tt.want, tt.known)
			}
		})
	}
}
