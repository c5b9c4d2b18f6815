package envoy

import (
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
