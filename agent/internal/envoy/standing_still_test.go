package envoy

import (
	"testing"
	"time"
)

// An Envoy that stood still in the middle of a whole answer is asked again soon; one whose answers always are that expensive is not.
func TestAnAnswerThatCameLateOnceIsNoPrice(t *testing.T) {
	now := time.Now()
	for name, row := range map[string]struct {
		took []time.Duration
		rest time.Duration
	}{
		"stood still for 3 s":             {[]time.Duration{5 * time.Millisecond, 3 * time.Second}, 20 * 10 * time.Millisecond},
		"failed after 15 s":               {[]time.Duration{5 * time.Millisecond, wholeCall}, 20 * 10 * time.Millisecond},
		"4 s at first, it may be loading": {[]time.Duration{4 * time.Second}, 20 * time.Second},
		"always 4 s":                      {[]time.Duration{4 * time.Second, 4 * time.Second, 4 * time.Second, 4 * time.Second, 4 * time.Second}, 80 * time.Second},
	} {
		var w whole
		for _, took := range row.took {
			w.at, w.paid = now, time.Time{}
			w.spent(took, now)
		}
		if rest := w.paid.Sub(now); rest != row.rest {
			t.Errorf("%s: asked again after %v, want %v", name, rest, row.rest)
		}
	}
}
