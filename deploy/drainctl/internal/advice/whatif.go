package advice

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/drain-agent/drain-agent/agent/replay"
)

// Try is what a workload's stops are replayed under.
type Try struct {
	Name     string // as it is shown
	Settings replay.Settings
	Graces   bool // each stop keeps the grace period that it had, where that is known
}

// WhatIf is what the stops of a workload would have come to under other settings of the agent.
type WhatIf struct {
	Settings   string    `json:"settings"`
	Stops      int       `json:"stops"`                       // replayed
	Open       int       `json:"not_over"`                    // of them: their recording ends before their replay does; they are right-censored
	Deadline   int       `json:"ended_by_deadline"`           // of them
	Took       Range     `json:"total_ms"`                    // of one stop
	Lost       Range     `json:"requests_lost"`               // by one stop
	Confidence float64   `json:"confidence"`                  // that the next stop lies between low and high, of each of the two
	Per100     *[2]int64 `json:"requests_lost_per_100_stops"` // 95 % interval of the mean; null: too many are not over
}

// Range is where the next stop lies, with the confidence beside it. High is null where nobody can say.
type Range struct {
	Low  int64  `json:"low"`
	P50  *int64 `json:"p50"`
	High *int64 `json:"high"`
}

// Replays says of a workload's stops which can be replayed.
type Replays struct {
	Ready    int `json:"ready"`
	Unread   int `json:"without_arrivals"` // their verdicts lack what a replay needs: reported by no agent, or by an earlier one
	Unlike   int `json:"unlike_recorded"`  // under the settings that they had they do not come out as they were recorded
	Censored int `json:"cut_by_deadline"`  // of the ready ones: right-censored
	Older    int `json:"older"`            // than the newest that were looked at
}

// Newest is how many stops of a workload are replayed at the most: more say nothing more, and take their time.
const Newest = 1000

// bounds of a replayed stop: from the least to the most; the most is math.MaxInt64 of one that is not over.
type bounds [2]int64

// Replay plays the stops of one workload under the settings that they were recorded with, to see whether that works, and under others.
func Replay(stops []Stop, recorded Try, tries []Try) (r Replays, out []WhatIf) {
	var told, ready []*Stop
	for i := range stops {
		if stops[i].Recorded != nil {
			told = append(told, &stops[i])
		}
	}
	r.Unread = len(stops) - len(told)
	slices.SortStableFunc(told, func(a, b *Stop) int { return b.At.Compare(a.At) })
	r.Older = max(0, len(told)-Newest)
	for _, s := range told[:len(told)-r.Older] {
		switch {
		case !s.Recorded.Replays(recorded.of(s)):
			r.Unlike++
		default:
			if r.Ready++; s.Recorded.Cut() {
				r.Censored++
			}
			ready = append(ready, s)
		}
	}
	if r.Ready == 0 {
		return r, []WhatIf{}
	}
	for _, try := range append([]Try{recorded}, tries...) {
		out = append(out, whatIf(ready, try))
	}
	return r, out
}

func (t *Try) of(s *Stop) replay.Settings {
	settings := t.Settings
	if t.Graces && s.GraceS != nil {
		settings.Grace = secondsOf(*s.GraceS)
	}
	return settings
}

func whatIf(stops []*Stop, try Try) WhatIf {
	w := WhatIf{Settings: try.Name, Stops: len(stops)}
	var took, lost []bounds
	for _, s := range stops {
		played := replay.Play(s.Recorded, try.of(s))
		t := bounds{played.Total[0].Milliseconds(), played.Total[1].Milliseconds()}
		l := bounds(played.Lost)
		if played.Deadline {
			w.Deadline++
		}
		if played.Open {
			w.Open++
			t[1], l[1] = math.MaxInt64, math.MaxInt64
		}
		took, lost = append(took, t), append(lost, l)
	}
	w.Took, w.Confidence = next(took)
	w.Lost, _ = next(lost)
	w.Per100 = perHundred(lost)
	return w
}

// slept are the stops as they would have been with a sleep instead of the agent.
func slept(stops []Stop, sleep time.Duration) (took, lost []bounds) {
	for i := range stops {
		if stops[i].Recorded == nil {
			continue
		}
		played := replay.Slept(stops[i].Recorded, sleep)
		t, l := bounds{played.Total[0].Milliseconds(), played.Total[1].Milliseconds()}, bounds(played.Lost)
		if played.Open {
			t[1], l[1] = math.MaxInt64, math.MaxInt64
		}
		took, lost = append(took, t), append(lost, l)
	}
	return took, lost
}

// next is where the next stop lies: between two places in the order of those that were seen, whatever they are distributed like. It holds
// with the confidence, at most 95 % of it: with fewer than 39 stops their least and their most hold with less.
func next(all []bounds) (r Range, confidence float64) {
	n := len(all)
	out := max(1, int((1-Confidence)/2*float64(n+1)))
	low, high := sorted(all, 0), sorted(all, 1)
	r.Low, r.High = low[out-1], known(high[n-out])
	if middle := known(high[(n-1)/2]); middle != nil {
		r.P50 = new((low[(n-1)/2] + *middle) / 2)
	}
	return r, max(0, float64(n+1-2*out)/float64(n+1))
}

func sorted(all []bounds, side int) (out []int64) {
	for _, b := range all {
		out = append(out, b[side])
	}
	slices.Sort(out)
	return out
}

func known(n int64) *int64 {
	if n == math.MaxInt64 {
		return nil
	}
	return &n
}

// perHundred is the 95 % interval of the mean by bootstrap, of a hundred stops: the least of the least and the most of the most.
func perHundred(lost []bounds) *[2]int64 {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same stops give the same advice
	var means [2][]float64
	for range 1000 {
		var sum [2]float64
		for range lost {
			one := lost[random.IntN(len(lost))]
			if one[1] == math.MaxInt64 {
				return nil
			}
			sum[0], sum[1] = sum[0]+float64(one[0]), sum[1]+float64(one[1])
		}
		for side := range sum {
			means[side] = append(means[side], 100*sum[side]/float64(len(lost)))
		}
	}
	slices.Sort(means[0])
	slices.Sort(means[1])
	return &[2]int64{int64(math.Floor(means[0][24])), int64(math.Ceil(means[1][975]))}
}
