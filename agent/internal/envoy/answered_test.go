package envoy

import (
	"testing"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// What came, less what was answered, are requests that wait or that ended without an answer; what ended so once stays so.
func TestUnanswered(t *testing.T) {
	t.Parallel()
	var e silentEnds
	names := []string{"http.in.downstream_rq_completed"}
	for i, step := range []struct{ came, answered, there, want int64 }{
		{100, 90, 4, 4}, // six ended without an answer, at least; the four may all wait
		{101, 93, 3, 2}, // one more came, three were answered, two of these are over
		{101, 95, 2, 0}, // the two were answered too, and are there still
		{102, 95, 3, 1}, // one more came
		{102, 95, 2, 1}, // one of the three ended: which, nobody knows yet
		{102, 95, 0, 0}, // all did
		{5, 4, 1, 1},    // another process
		{5, 5, 1, 0},
	} {
		if got := e.unanswered(names, drain.Known(step.came), drain.Known(step.answered), drain.Known(step.there)); got != drain.Known(step.want) {
			t.Errorf("step %d: %+v, want %d", i, got, step.want)
		}
	}
	if got := e.unanswered([]string{"http.other.downstream_rq_completed"}, drain.Known(9), drain.Known(2), drain.Known(3)); got != drain.Known(3) {
		t.Errorf("other counters: %+v, want all three", got)
	}
	if got := e.unanswered(names, drain.Known(9), drain.Count{}, drain.Known(3)); got.Known {
		t.Errorf("a counter is hidden: %+v", got)
	}
}
