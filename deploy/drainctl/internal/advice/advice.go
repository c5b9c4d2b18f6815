// Package advice says from recorded stops how long a grace period should be, what a fixed sleep would have cut, and what other settings of
// the agent would have cost and saved.
//
// The first two it computes from how long each stop took and from the curve of what was in flight; for the last it replays the stops
// whose verdicts carry what came, too (package replay).
package advice

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/drain-agent/drain-agent/agent/replay"
	"github.com/drain-agent/drain-agent/agent/timeline"
)

// Stop is one recorded stop of a pod.
type Stop struct {
	Pod     string
	Outcome string
	TotalMS *int64     // nil: unknown
	Release *int64     // milliseconds to the first hook's answer; nil: unknown
	Curve   [][2]int64 // [milliseconds, requests in flight]; nil: not recorded
	GraceS  *int64     // nil: unknown
	At      time.Time  // of the verdict; zero: unknown
	Capped  bool       // by a stage's share or by drain-max, which no grace period lengthens

	Recorded *replay.Recorded // nil: its verdict has not what a replay needs
}

// Read takes from a verdict what the ledger's row has not.
func (s *Stop) Read(v *timeline.Verdict) {
	s.At = v.Time
	s.Capped = v.Outcome == "deadline" && capped(v.Reason)
	if replay.Rising(v.InFlightCurve) {
		s.Curve = v.InFlightCurve
	}
	s.Recorded, _ = replay.Read(v)
	if at, known := replay.Release(v); known {
		s.Release = new(at.Milliseconds())
	}
}

// capped reports whether an agent's reason for the outcome deadline names a limit of its own. The grace period is named where that was over,
// alone or with such a limit; reasons that are not known here count as that.
func capped(reason string) bool {
	own := strings.Contains(reason, "did not end within its share") || strings.Contains(reason, "drain-max of")
	return own && !strings.Contains(reason, "grace period budget is over") && !strings.Contains(reason, "SIGTERM while our hook was held")
}

// Possible is a time in milliseconds that a stop can have taken; nil where it cannot, and is as good as unknown.
func Possible(ms *int64) *int64 {
	if ms == nil || !replay.Plausible(*ms) {
		return nil
	}
	return ms
}

// fits reports whether what the stop asks of a grace period is known: with that it ends as it did, or as its agent's own limits have it.
func (s *Stop) fits() bool { return s.exact() || s.Capped }

// exact reports whether the stop took as long as it needed. Others were ended before: by the deadline, an operator, a death.
func (s *Stop) exact() bool { return s.Outcome == "clean" }

// Advice is what the stops of one workload say.
type Advice struct {
	Workload string   `json:"workload"`
	Stops    int      `json:"stops"`           // with a known time
	Cut      int      `json:"cut_short"`       // of them: right-censored, they were ended before they were done
	Capped   int      `json:"capped"`          // of those: by a stage's share or drain-max, which no grace period lengthens
	Unknown  int      `json:"unknown"`         // stops whose time nobody knows; they are in no figure
	Took     Took     `json:"took_ms"`         // of the stops with a known time
	Now      []int64  `json:"grace_periods_s"` // those that the stops had
	Grace    []Grace  `json:"grace"`           // advice, one for each share
	Sleep    []Sleep  `json:"sleep"`           // what a fixed sleep would have met
	Replays  Replays  `json:"replays"`         // which of the stops can be replayed
	WhatIf   []WhatIf `json:"what_if"`         // the first under the settings that they had

	MarginMS int64 `json:"margin_ms"`
	StagesMS int64 `json:"stages_ms"`
}

// Budget is what an agent keeps free of the grace period: behind the first hook's answer its stages' shares, and behind those the margin.
type Budget struct{ Margin, Stages time.Duration }

// needs is the least grace period in which the stop is not cut, in milliseconds. Where nobody knows when the first hook was answered, that
// was at the end at the latest.
func (b Budget) needs(s *Stop) int64 {
	release := *s.TotalMS
	if s.Release != nil {
		release = min(release, *s.Release)
	}
	return max(*s.TotalMS, release+b.Stages.Milliseconds()) + b.Margin.Milliseconds()
}

// AtLeast is the grace period that the stop needs; cut: it needs more than that. One that the deadline cut needs more than it had.
func (b Budget) AtLeast(s *Stop) (need time.Duration, cut bool) {
	need = time.Duration(b.needs(s)) * time.Millisecond
	if s.fits() {
		return need, false
	}
	if s.Outcome == "deadline" && s.GraceS != nil {
		return secondsOf(*s.GraceS), true
	}
	return (need + time.Second - 1).Truncate(time.Second), true
}

// Took are quantiles of the time that stops need, by the Kaplan–Meier estimator; null where too many were cut short.
type Took struct {
	P50 *int64 `json:"p50"`
	P95 *int64 `json:"p95"`
	P99 *int64 `json:"p99"`
	Max int64  `json:"longest_seen"`
}

// Confidence with which a grace period that is called sure holds its share.
const Confidence = 0.95

// Grace is a grace period for a share of stops.
type Grace struct {
	Share      float64 `json:"share"`
	Seconds    *int64  `json:"seconds"`    // null: nobody can say, for too many stops were cut short
	Sure       bool    `json:"sure"`       // with the confidence of 95 % at least; else Seconds is the longest that was seen
	Confidence float64 `json:"confidence"` // that so many of all stops fit
	Needs      int     `json:"needs"`      // how many stops it takes to be sure
	AtLeast    int64   `json:"at_least_s"` // the longest time that was seen, cut short or not, with the margin
}

// Sleep is what a preStop hook "sleep SECONDS", instead of the agent, would have met when it was over.
type Sleep struct {
	Seconds  int64   `json:"seconds"`
	Stops    int     `json:"stops"`    // with a curve
	Unread   int     `json:"unread"`   // without
	Hit      int     `json:"hit"`      // with requests in flight at that moment
	Low      float64 `json:"low"`      // of the share of stops that are hit: 95 % interval
	High     float64 `json:"high"`     //
	Requests int64   `json:"requests"` // in flight at those moments, all added up

	Took       *Range  `json:"total_ms"`      // of the next stop, with the confidence; null: no stop tells what came
	Lost       *Range  `json:"requests_lost"` // by it
	Confidence float64 `json:"confidence"`
}

// Of computes the advice.
func Of(workload string, stops []Stop, budget Budget, shares []float64, sleeps []int64) Advice {
	a := Advice{Workload: workload, MarginMS: budget.Margin.Milliseconds(), StagesMS: budget.Stages.Milliseconds(), Now: []int64{}, Grace: []Grace{}, Sleep: []Sleep{}}
	var exact, cut, fits, short []int64
	for i := range stops {
		s := &stops[i]
		if s.GraceS != nil && !slices.Contains(a.Now, *s.GraceS) {
			a.Now = append(a.Now, *s.GraceS)
		}
		switch {
		case s.TotalMS == nil:
			a.Unknown++
		case s.exact():
			exact, fits = append(exact, *s.TotalMS), append(fits, budget.needs(s))
		case s.Capped:
			a.Capped++
			cut, fits = append(cut, *s.TotalMS), append(fits, budget.needs(s))
		default:
			cut, short = append(cut, *s.TotalMS), append(short, budget.needs(s))
		}
	}
	slices.Sort(a.Now)
	slices.Sort(exact)
	slices.Sort(cut)
	slices.Sort(fits)
	a.Stops, a.Cut = len(exact)+len(cut), len(cut)
	if a.Stops > 0 {
		a.Took = Took{P50: quantile(exact, cut, 0.5), P95: quantile(exact, cut, 0.95), P99: quantile(exact, cut, 0.99), Max: slices.Max(slices.Concat(exact, cut))}
		for _, share := range shares {
			a.Grace = append(a.Grace, grace(fits, short, share))
		}
		for _, seconds := range sleeps {
			a.Sleep = append(a.Sleep, sleep(stops, seconds))
		}
	}
	return a
}

// secondsOf bounds what a pod's spec may say to a year.
func secondsOf(n int64) time.Duration { return time.Duration(min(max(n, 0), 365*86_400)) * time.Second }

// quantile is the Kaplan–Meier estimate of the time that a share of stops needs at most; nil: beyond what was seen.
func quantile(exact, cut []int64, share float64) *int64 {
	left, alive := len(exact)+len(cut), 1.0
	for i, at := range exact {
		for len(cut) > 0 && cut[0] < at { // it was ended before
			cut, left = cut[1:], left-1
		}
		alive *= 1 - 1/float64(left)
		left--
		if 1-alive >= share-1e-9 {
			return &exact[i]
		}
	}
	return nil
}

// grace is the least grace period that holds the share of all stops with the confidence: the time at a place in the order of stops,
// whatever their times are distributed like. A stop that was cut short counts as longer than any.
func grace(exact, cut []int64, share float64) Grace {
	n := len(exact) + len(cut)
	seconds := func(ms int64) int64 { return int64(math.Ceil(float64(ms) / 1000)) }
	g := Grace{Share: share, Needs: int(math.Ceil(math.Log(1-Confidence) / math.Log(share))), AtLeast: seconds(slices.Max(slices.Concat(exact, cut)))}
	place, confidence := place(n, share)
	switch {
	case place <= len(exact):
		at := seconds(exact[place-1])
		g.Seconds, g.Sure, g.Confidence = &at, true, confidence
	case len(cut) == 0:
		at := seconds(exact[n-1])
		g.Seconds, g.Confidence = &at, 1-math.Pow(share, float64(n))
	}
	return g
}

// place is the first in the order of n that is not below the share's quantile with the confidence; n+1 where there is none.
func place(n int, share float64) (k int, confidence float64) {
	below := 0.0
	for k = range n {
		below += binomial(k, n, share) // P(at most k are below the quantile)
		if below >= Confidence {
			return k + 1, min(below, 1)
		}
	}
	return n + 1, 0
}

// binomial is the chance of k of n, each with the chance p.
func binomial(k, n int, p float64) float64 {
	if p <= 0 || p >= 1 {
		return map[bool]float64{true: 1}[p <= 0 && k == 0 || p >= 1 && k == n]
	}
	all, _ := math.Lgamma(float64(n + 1))
	these, _ := math.Lgamma(float64(k + 1))
	others, _ := math.Lgamma(float64(n - k + 1))
	return math.Exp(all - these - others + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
}

func sleep(stops []Stop, seconds int64) Sleep {
	s := Sleep{Seconds: seconds}
	for i := range stops {
		n, known := stops[i].at(seconds * 1000)
		if !known {
			s.Unread++
			continue
		}
		s.Stops++
		s.Requests += n
		if n > 0 {
			s.Hit++
		}
	}
	s.Low, s.High = interval(s.Hit, s.Stops)
	if took, lost := slept(stops, time.Duration(seconds)*time.Second); len(took) > 0 {
		var ranges [2]Range
		ranges[0], s.Confidence = next(took)
		ranges[1], _ = next(lost)
		s.Took, s.Lost = &ranges[0], &ranges[1]
	}
	return s
}

// at is what was in flight at a moment: nothing after the end of a stop that was done, and what was left where one was cut short.
func (s *Stop) at(ms int64) (n int64, known bool) {
	if len(s.Curve) == 0 {
		return 0, false
	}
	last := s.Curve[len(s.Curve)-1]
	if ms > last[0] && s.exact() {
		return 0, true
	}
	n = s.Curve[0][1]
	for _, point := range s.Curve {
		if point[0] <= ms {
			n = point[1]
		}
	}
	return max(n, 0), true
}

// interval is the exact one of Clopper and Pearson for a share of which k of n were seen.
func interval(k, n int) (low, high float64) {
	if n == 0 {
		return 0, 1
	}
	const tail = (1 - Confidence) / 2
	atMost := func(k int, p float64) (sum float64) {
		for i := range k + 1 {
			sum += binomial(i, n, p)
		}
		return sum
	}
	find := func(above func(p float64) bool) float64 {
		from, to := 0.0, 1.0
		for range 40 {
			if middle := (from + to) / 2; above(middle) {
				to = middle
			} else {
				from = middle
			}
		}
		return (from + to) / 2
	}
	high = 1
	if k > 0 {
		low = find(func(p float64) bool { return 1-atMost(k-1, p) >= tail })
	}
	if k < n {
		high = find(func(p float64) bool { return atMost(k, p) <= tail })
	}
	return low, high
}
