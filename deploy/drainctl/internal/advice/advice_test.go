package advice

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/timeline"
)

func clean(ms int64, curve ...[2]int64) Stop {
	return Stop{Outcome: "clean", TotalMS: &ms, Curve: curve}
}

func cutShort(ms int64, curve ...[2]int64) Stop {
	return Stop{Outcome: "deadline", TotalMS: &ms, Curve: curve}
}

// Three hundred stops are one more than it takes to be sure of 99 %; fewer are said to be fewer.
func TestHowSureAGraceIs(t *testing.T) {
	for _, row := range []struct {
		n, cut     int
		seconds    int64 // 0: nobody can say
		sure       bool
		confidence float64
	}{
		{299, 0, 301, true, 0.9505},
		{298, 0, 300, false, 0.95},
		{10, 0, 12, false, 0.0956},
		{1000, 0, 998, true, 0.9713}, // the 996th
		{1000, 4, 998, true, 0.9713}, // four were longer than any
		{1000, 5, 0, false, 0},
		{10, 1, 0, false, 0},
	} {
		var stops []Stop
		for i := range row.n {
			if i >= row.n-row.cut {
				stops = append(stops, cutShort(3000))
			} else {
				stops = append(stops, clean(int64(i+1)*1000))
			}
		}
		g := Of("w", stops, Budget{Margin: 2 * time.Second}, []float64{0.99}, nil).Grace[0]
		if row.seconds == 0 != (g.Seconds == nil) || g.Seconds != nil && *g.Seconds != row.seconds || g.Sure != row.sure || math.Abs(g.Confidence-row.confidence) > 0.0006 || g.Needs != 299 {
			t.Errorf("%d stops, %d cut short: %+v %v", row.n, row.cut, g, g.Seconds)
		}
	}
}

// What a stop that an agent's own limit ended asks of a grace period is known: no longer one would have helped it. Others are longer than any.
func TestStopsThatNoGracePeriodLengthens(t *testing.T) {
	for reason, known := range map[string]bool{
		"app did not end within its share of 5s; zero held for the settle time of 200ms": true,
		"drain-max of 1s is over": true,
		"app did not end within its share of 5s; grace period budget is over at 3s":                                                                false,
		"app did not end within its share of 5s; SIGTERM while our hook was held: grace was 4s, configured 30s":                                    false,
		"the agent's loop did not answer in time; the watchdog answered every hook":                                                                false,
		"app did not end within its share of 5s, in a stop that was begun anew because a hook was called again; grace period budget is over at 3s": false,
	} {
		var last Stop
		last.Outcome, last.TotalMS, last.GraceS = "deadline", new(int64(8000)), new(int64(60))
		last.Read(&timeline.Verdict{Outcome: "deadline", Reason: reason, TotalMS: 8000, Phases: map[string]int64{"draining": 3000, "stopping": 5000}})
		stops := []Stop{last}
		for range 298 {
			stops = append(stops, clean(2000))
		}
		b := Budget{Margin: 2 * time.Second, Stages: 7 * time.Second}
		a := Of("w", stops, b, []float64{0.99}, nil)
		if got := a.Grace[0].Seconds != nil && *a.Grace[0].Seconds == 12; got != known || a.Cut != 1 || (a.Capped == 1) != known {
			t.Errorf("%s: %+v %v, %d of %d by the agent's own limits", reason, a.Grace[0], a.Grace[0].Seconds, a.Capped, a.Cut)
		}
		if need, cut := b.AtLeast(&last); cut == known || known && need != 12*time.Second || !known && need != time.Minute {
			t.Errorf("%s: needs %v, cut %v", reason, need, cut)
		}
		if a.Took.P99 == nil { // how long it would have taken nobody knows in either case; 298 of 299 are shorter
			t.Errorf("%s: %+v", reason, a.Took)
		}
	}
}

// The promise is kept on stops that were not seen: whatever the distribution, the share fits in 95 % of many tries.
func TestPromisedShareHoldsOnOtherStops(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // reproducible on purpose
	for name, draw := range map[string]func() float64{
		"lognormal": func() float64 { return 2000 * math.Exp(random.NormFloat64()) },
		"two kinds": func() float64 {
			return []float64{1500, 24_000}[map[bool]int{true: 1}[random.IntN(100) < 3]] + 500*random.Float64()
		},
		"heavy tail": func() float64 { return 1000 / math.Pow(1-random.Float64(), 0.7) },
	} {
		held, tries := 0, 300
		for range tries {
			var stops []Stop
			for range 400 {
				stops = append(stops, clean(int64(draw())))
			}
			seconds := *Of("w", stops, Budget{}, []float64{0.99}, nil).Grace[0].Seconds
			fit, others := 0, 4000
			for range others {
				if int64(draw()) <= seconds*1000 {
					fit++
				}
			}
			if float64(fit) >= 0.99*float64(others) {
				held++
			}
		}
		if share := float64(held) / float64(tries); share < 0.9 {
			t.Errorf("%s: held in %.0f %% of the tries", name, 100*share)
		}
	}
}

// By hand: of five, the second and the fourth in the order of time were cut short.
func TestQuantilesOfStopsThatWereCutShort(t *testing.T) {
	stops := []Stop{clean(1000), cutShort(2000), clean(3000), cutShort(4000), clean(5000)}
	for share, want := range map[float64]int64{0.2: 1000, 0.4: 3000, 0.46: 3000, 0.47: 5000} { // 1/5; 1 − 4/5 · 2/3 = 0.467
		if got := quantile([]int64{1000, 3000, 5000}, []int64{2000, 4000}, share); got == nil || *got != want {
			t.Errorf("%v: %v, want %d", share, got, want)
		}
	}
	stops = append(stops, cutShort(6000), Stop{Outcome: "unknown"})
	a := Of("w", stops, Budget{}, nil, nil)
	if a.Took.P99 != nil || a.Took.Max != 6000 || a.Stops != 6 || a.Cut != 3 || a.Unknown != 1 {
		t.Errorf("%+v", a)
	}
}

// What a sleep would have met is read off the curve; a stop that has none is in no figure.
func TestSleepMeetsWhatIsInFlight(t *testing.T) {
	a := Of("w", []Stop{
		clean(9000, [2]int64{100, 7}, [2]int64{4900, 3}, [2]int64{8000, 0}), cutShort(9000, [2]int64{0, 4}, [2]int64{9000, 2}), clean(1000, [2]int64{0, 9}, [2]int64{900, 1}), clean(1000),
	}, Budget{}, nil, []int64{0, 5, 30})
	want := []Sleep{{Seconds: 0, Stops: 3, Unread: 1, Hit: 3, Requests: 20}, {Seconds: 5, Stops: 3, Unread: 1, Hit: 2, Requests: 7}, {Seconds: 30, Stops: 3, Unread: 1, Hit: 1, Requests: 2}}
	for i, s := range a.Sleep {
		if s.Took != nil || s.Lost != nil {
			t.Errorf("of stops that tell nothing of what came: %+v, %+v", s.Took, s.Lost)
		}
		low, high := s.Low, s.High
		if s.Low, s.High = 0, 0; s != want[i] {
			t.Errorf("%+v, want %+v", s, want[i])
		}
		if share := float64(s.Hit) / float64(s.Stops); low > share || high < share {
			t.Errorf("%v to %v does not hold %v", low, high, share)
		}
	}
	if low, high := interval(3, 10); math.Abs(low-0.0667) > 0.0001 || math.Abs(high-0.6525) > 0.0001 { // as tables have it
		t.Errorf("3 of 10: %v to %v", low, high)
	}
}
