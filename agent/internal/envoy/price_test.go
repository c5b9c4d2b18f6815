package envoy

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

func TestPrice(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var p price
	p.paid(now, time.Second) // one slow answer
	if !p.readable(now, false) {
		t.Error("demoted by one slow answer")
	}
	p.paid(now, 400*time.Millisecond)
	if p.readable(now, false) || !p.readable(now, true) {
		t.Error("two slow answers: want readable only when nothing else is left")
	}
	later := now.Add(16 * time.Second) // 2 × 20 × 400 ms
	if p.readable(later.Add(-1), false) || !p.readable(later, false) {
		t.Error("tried again too early or too late")
	}
	if p.paid(later, 50*time.Millisecond); p.why != "" {
		t.Errorf("affordable again, but %q", p.why)
	}
	p.refused(now, errTooLarge)
	if p.readable(now, true) || !p.readable(now.Add(retryDear), false) {
		t.Error("what is forbidden is asked for again too early or too late")
	}
}

func TestCounterNeverDecreases(t *testing.T) {
	t.Parallel()
	var c counter
	for _, step := range []struct{ raw, want int64 }{{7, 7}, {9, 9}, {0, 9}, {2, 11}, {2, 11}} {
		if got := c.add(step.raw); got != drain.Known(step.want) {
			t.Errorf("after %d: %+v, want %d", step.raw, got, step.want)
		}
	}
	if got := c.count(drain.Count{}); got.Known {
		t.Errorf("unknown became %+v", got)
	}
}

func TestAllowance(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	// read plays looks every 25 ms for a minute and returns the share of it that the statistics took, and the longest gap.
	read := func(cost time.Duration, busy func(look int) bool) (share float64, gap time.Duration) {
		var a allowance
		start := time.Now()
		spent, last := time.Duration(0), start
		for look := range 2400 {
			now := start.Add(time.Duration(look) * 25 * ms)
			if a.due(now, busy(look)) {
				a.spent(now, cost)
				spent, gap, last = spent+cost, max(gap, now.Sub(last)), now
			}
		}
		return spent.Seconds() / 60, gap
	}
	always, never, often := func(int) bool { return true }, func(int) bool { return false }, func(look int) bool { return look%2 == 0 }
	for name, tt := range map[string]struct {
		cost  time.Duration
		busy  func(int) bool
		share float64
		gap   time.Duration
	}{
		"cheap and busy":         {1 * ms, always, 0.005, 250 * ms},
		"cheap and idle":         {1 * ms, never, 0.05, 50 * ms},
		"dear and busy":          {45 * ms, always, 0.014, 4500 * ms},
		"dear and idle":          {45 * ms, never, 0.052, 925 * ms},
		"dear, busy and idle":    {45 * ms, often, 0.052, 925 * ms},
		"cheap, busy and idle":   {1 * ms, often, 0.05, 50 * ms},
		"middling, and busy":     {10 * ms, always, 0.011, 1000 * ms},
		"middling, now and then": {10 * ms, func(look int) bool { return look%40 != 0 }, 0.012, 1000 * ms},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if share, gap := read(tt.cost, tt.busy); share > tt.share+0.0005 || gap > tt.gap {
				t.Errorf("%.3f of Envoy's time and up to %v between two readings, want %.3f and %v", share, gap, tt.share, tt.gap)
			}
		})
	}
	var a allowance
	a.spent(time.Now(), ms)
	if a.spent(time.Now(), time.Second); a.cost != 2*ms {
		t.Errorf("one slow answer is believed to cost %v", a.cost)
	}
}

// A first reading is slow where Envoy has just started. It must not put off the next one by seconds: an announcement rests on it.
func TestFirstReadingIsNotBelieved(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	var a allowance
	start := time.Now()
	a.spent(start, 200*ms)
	if every := a.every(true); every != statsPace || !a.due(start.Add(every), true) {
		t.Errorf("after a slow first reading the next one comes after %v", every)
	}
	if a.spent(start.Add(statsPace), 200*ms); a.cost != 10*ms {
		t.Errorf("after a second one the cost is believed to be %v", a.cost)
	}
}

// A drain of a busy pod begins with what was not spent before: three looks within a second tell whether new connections come.
func TestBeginningIsCloselyLookedAt(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	a := allowance{cost: 20 * ms}
	start := time.Now()
	for i, want := range []time.Duration{statsPace, statsPace, 1500 * ms, 2000 * ms} {
		if a.spent(start, 20*ms); a.every(true) != want {
			t.Errorf("after reading %d the next one comes after %v, want %v", i+1, a.every(true), want)
		}
		start = start.Add(a.every(true))
	}
}

// A zero of the server's total that was seen twice, thirty seconds apart, says nothing of the time between.
func TestZeroBetweenRareLooks(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "%s: 0\n", totalConnections)
	}))
	t.Cleanup(server.Close)
	c, err := New(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	start := time.Now()
	look := func(at time.Duration) drain.Count {
		r := &reading{c: c, ctx: t.Context(), now: start.Add(at)}
		if err := r.flushed(); err != nil {
			t.Fatal(err)
		}
		return r.out.InFlight
	}
	look(0)
	for at := 30 * time.Second; at < 30*time.Second+flushPace; at += time.Second {
		if n := look(at); n.Known {
			t.Errorf("%v after the first look: %+v", at, n)
		}
	}
	if n := look(30*time.Second + flushPace); n != drain.Known(0) {
		t.Errorf("after two flushes: %+v", n)
	}
}

// Who waits for a proof gets one whole answer of /clusters ahead of its time, and only one for each time that it asks for.
func TestOneWholeAnswerAhead(t *testing.T) {
	t.Parallel()
	const took = 250 * time.Millisecond
	began := time.Now()
	at := func(d time.Duration) time.Time { return began.Add(d) }
	w := whole{known: true, at: began}
	w.spent(took, began)
	if w.due(at(time.Second), changes{}, false) {
		t.Error("due before its time")
	}
	if !w.ahead(at(time.Second), at(time.Second)) {
		t.Error("not for who waits for a proof")
	}
	w.at = at(time.Second)
	if w.ahead(at(2*time.Second), at(time.Second)) {
		t.Error("two for one proof")
	}
	w.spent(took, began)
	if w.ahead(at(2*time.Second), at(2*time.Second)) {
		t.Error("a second one ahead of its time")
	}
	if !w.ahead(at(share20*took), at(2*time.Second)) {
		t.Error("none although the first is paid")
	}
	twice := time.Second + 2*share20*took
	if w.due(at(twice-1), changes{}, false) || !w.due(at(twice), changes{}, false) || w.due(at(twice), changes{}, true) {
		t.Error("without anybody who waits: not after twice its price, or with something under way")
	}
}

// What a stop has not spent yet may be spent when it matters: each of four requests, one shortly after the other, ends in a zero that is proved.
func TestWhatAStopHasSavedMayBeSpent(t *testing.T) {
	t.Parallel()
	const took = 250 * time.Millisecond
	began := time.Now()
	w := whole{known: true, at: began.Add(-time.Minute), took: took}
	late := began.Add(10 * time.Second) // two answers' worth
	for n := range 5 {
		now := late.Add(time.Duration(n) * time.Second)
		if may := w.ahead(now, now); may != (n < 4) {
			t.Errorf("answer %d within seconds: %v", n+1, may)
		}
		w.at = now
		w.spent(took, began)
	}
	w = whole{known: true, at: began.Add(-time.Hour), took: took}
	w.at = began
	w.spent(took, began.Add(-time.Hour))
	if saved := began.Sub(w.paid); saved > savedWhole*share20*took {
		t.Errorf("an hour saves %v", saved)
	}
}
