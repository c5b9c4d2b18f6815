package conductor

import (
	"slices"
	"testing"
	"time"
)

func TestWhoAnswersSlowlyIsAskedRarely(t *testing.T) {
	const ms = time.Millisecond
	tests := map[string]struct{ took, every []time.Duration }{
		"quick answers":             {[]time.Duration{ms, ms / 2}, []time.Duration{25 * ms, 25 * ms}},
		"one slow answer":           {[]time.Duration{ms, 235 * ms, ms}, []time.Duration{25 * ms, 40 * ms, 25 * ms}},
		"slow from the first":       {[]time.Duration{200 * ms, 200 * ms}, []time.Duration{4000 * ms, 4000 * ms}},
		"slow from some time on":    {[]time.Duration{4 * ms, 200 * ms, 200 * ms, 200 * ms}, []time.Duration{80 * ms, 160 * ms, 320 * ms, 640 * ms}},
		"never more than it really": {[]time.Duration{100 * ms, 150 * ms, 150 * ms}, []time.Duration{2000 * ms, 3000 * ms, 3000 * ms}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := &poller{c: &Conductor{cfg: Config{Poll: 25 * ms}}}
			var every []time.Duration
			for _, took := range tt.took {
				every = append(every, p.pace(took, ""))
			}
			if !slices.Equal(every, tt.every) {
				t.Errorf("asked again after %v, want %v", every, tt.every)
			}
		})
	}
}
