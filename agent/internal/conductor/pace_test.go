package conductor

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

func TestWhoAnswersSlowlyIsAskedRarely(t *testing.T) {
	const ms = time.Millisecond
	tests := map[string]struct {
		took, every []time.Duration
		app         bool
	}{
		"quick answers":              {[]time.Duration{ms, ms / 2}, []time.Duration{25 * ms, 25 * ms}, false},
		"one slow answer":            {[]time.Duration{ms, 235 * ms, ms}, []time.Duration{25 * ms, 235 * ms, 25 * ms}, false},
		"slow from the first":        {[]time.Duration{200 * ms, 200 * ms}, []time.Duration{4000 * ms, 4000 * ms}, false},
		"slow from some time on":     {[]time.Duration{4 * ms, 200 * ms, 200 * ms, 200 * ms}, []time.Duration{80 * ms, 200 * ms, 320 * ms, 640 * ms}, false},
		"an app slow from the first": {[]time.Duration{3000 * ms, 3000 * ms, 3000 * ms, ms}, []time.Duration{3000 * ms, 4000 * ms, 8000 * ms, 25 * ms}, true},
		"never more than it really":  {[]time.Duration{100 * ms, 150 * ms, 150 * ms}, []time.Duration{2000 * ms, 3000 * ms, 3000 * ms}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := &poller{c: &Conductor{cfg: Config{Poll: 25 * ms}}, doubts: tt.app}
			p.repace(drain.Fast, false)
			var every []time.Duration
			for _, took := range tt.took {
				every = append(every, p.note(took, ""))
			}
			if !slices.Equal(every, tt.every) {
				t.Errorf("asked again after %v, want %v", every, tt.every)
			}
		})
	}
}

// A source that is asked for less often from now on is read before its newest reading is too old to speak: else it were unknown until then.
func TestSlowerPaceLeavesNothingUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var newest drain.Reading
		reads := 0
		p := &poller{c: &Conductor{cfg: Config{Poll: 25 * time.Millisecond}}, repaced: make(chan struct{}, 1), once: make(chan struct{}, 1), limit: time.Second}
		began := time.Now()
		p.read = func(_ context.Context, p *poller, _ time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			reads++
			newest = drain.Reading{Count: drain.Known(0), At: time.Since(began), Every: p.note(time.Millisecond, "")}
		}
		p.repace(drain.Fast, false)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go p.run(ctx)
		time.Sleep(110 * time.Millisecond)
		synctest.Wait()
		p.repace(drain.Rarely, false)
		mu.Lock()
		defer mu.Unlock()
		fast := reads
		for range 30 {
			mu.Unlock()
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			mu.Lock()
			if !newest.Fresh(time.Since(began)) {
				t.Fatalf("unknown %v after a reading that promised the next in %v", time.Since(began)-newest.At, newest.Every)
			}
		}
		if reads-fast > 5 {
			t.Errorf("read %d times in 3 s at the pace of once a second", reads-fast)
		}
	})
}
