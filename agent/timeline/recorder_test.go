package timeline_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/drain-agent/drain-agent/agent/timeline"
)

func TestRecorderKeepsTheLatestInOrder(t *testing.T) {
	passed := 0
	r := timeline.NewRecorder(func(l timeline.Line) {
		if passed++; l.Event.Seq != passed {
			t.Errorf("sink got seq %d, want %d", l.Event.Seq, passed)
		}
	})
	if len(r.Events()) != 0 || r.Verdict() != nil {
		t.Error("a new recorder remembers something")
	}
	for ms := range int64(600) {
		r.Record(timeline.Event{ElapsedMS: ms})
	}
	events := r.Events()
	if len(events) != timeline.MaxEvents || events[0].Seq != 345 || events[255].Seq != 600 {
		t.Fatalf("%d events, seq %d to %d; want 256, 345 to 600", len(events), events[0].Seq, events[len(events)-1].Seq)
	}
	for i, e := range events {
		if e.Seq != 345+i || e.ElapsedMS != int64(344+i) {
			t.Fatalf("event %d is seq %d at %d ms", i, e.Seq, e.ElapsedMS)
		}
	}
	if passed != 600 {
		t.Errorf("sink got %d lines, want 600", passed)
	}
}

func TestRecorderCutsLongTexts(t *testing.T) {
	r := timeline.NewRecorder()
	r.Record(timeline.Event{Action: timeline.Hold(strings.Repeat("ü", 5000))})
	if got := r.Events()[0].Action; len(got) > 1024 || len(got) < 1020 || !strings.HasSuffix(got, "ü") {
		t.Errorf("action of %d bytes, want at most 1024 and whole characters", len(got))
	}
}

func TestRecorderHasManyReaders(t *testing.T) {
	r := timeline.NewRecorder()
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for last := 0; last < 500; {
				events := r.Events()
				for i, e := range events {
					if i > 0 && e.Seq != events[i-1].Seq+1 {
						t.Errorf("seq %d after %d", e.Seq, events[i-1].Seq)
						return
					}
					last = e.Seq
				}
				r.Verdict()
			}
		})
	}
	for range 500 {
		r.Record(timeline.Event{})
	}
	r.Conclude(timeline.Verdict{Outcome: "clean"})
	readers.Wait()
	if v := r.Verdict(); v == nil || v.Outcome != "clean" {
		t.Errorf("verdict %+v", v)
	}
}

// A curve of an hour at 25 ms with one short peak and one short silence keeps both.
func TestCurveIsBoundedAndKeepsPeaks(t *testing.T) {
	var c timeline.Curve
	for i := range int64(144_000) {
		n := 50 + i%7
		switch i {
		case 70_001:
			n = 900
		case 70_002:
			n = 0
		}
		c.Add(i*25, n)
	}
	points := c.Points()
	if len(points) > timeline.MaxCurve || len(points) < timeline.MaxCurve/2 {
		t.Errorf("%d points, want at most %d", len(points), timeline.MaxCurve)
	}
	want := map[[2]int64]bool{{0, 50}: true, {70_001 * 25, 900}: true, {70_002 * 25, 0}: true, {143_999 * 25, 50 + 143_999%7}: true}
	for i, p := range points {
		delete(want, p)
		if i > 0 && p[0] <= points[i-1][0] {
			t.Errorf("point %v after %v", p, points[i-1])
		}
	}
	if len(want) > 0 {
		t.Errorf("lost %v", want)
	}
}

func TestCurveNeedsTwoPointsForAPlateau(t *testing.T) {
	var c timeline.Curve
	for ms := range int64(100) {
		c.Add(ms, 3)
	}
	if p := c.Points(); len(p) != 2 || p[0] != [2]int64{0, 3} || p[1] != [2]int64{99, 3} {
		t.Errorf("points %v, want both ends of the plateau", p)
	}
}

func TestThinToEveryLimit(t *testing.T) {
	curve := make([][2]int64, 200)
	for i := range curve {
		curve[i] = [2]int64{int64(i), int64(i * 37 % 101)}
	}
	curve[77][1] = 500
	for limit := range 200 {
		got := timeline.Thin(curve, limit)
		if len(got) > limit || limit >= 2 && (got[0] != curve[0] || got[len(got)-1] != curve[199]) {
			t.Errorf("limit %d: %v", limit, got)
		}
		peak := false
		for _, p := range got {
			peak = peak || p[1] == 500
		}
		if limit != 0 && limit != 2 && !peak {
			t.Errorf("limit %d lost the peak: %v", limit, got)
		}
	}
}

func TestTerminationAlwaysFits(t *testing.T) {
	v := *blind().verdict
	v.Reason = strings.Repeat("<because> ", 900)
	v.Cut = map[string]int64{}
	for i := range int64(60) {
		v.Cut[fmt.Sprintf("container-%d", i)] = i
	}
	for i := range int64(5000) {
		v.InFlightCurve = append(v.InFlightCurve, [2]int64{30_000_000 + i*25, 1_000_000 + i%97})
	}
	for limit := 0; limit <= 4096; limit += 1 + limit/6 {
		s := v.Termination(limit)
		if len(s) > max(limit, 2) || !json.Valid([]byte(s)) {
			t.Fatalf("limit %d: %d bytes: %s", limit, len(s), s)
		}
		if limit >= 512 && !strings.Contains(s, `"outcome":"deadline"`) {
			t.Fatalf("limit %d lost the outcome: %s", limit, s)
		}
	}
	whole := clean().verdict
	s := whole.Termination(1024)
	whole.InFlightCurve = nil
	if b, _ := whole.MarshalJSON(); s != string(b) {
		t.Errorf("a verdict that fits lost more than its curve: %s", s)
	}
}
