// Package replay plays a stop that an agent recorded through drain.Step again, under other settings: when would its hooks have been
// answered, and whom would that have met?
//
// A verdict carries what was in flight (in_flight_curve) and what came (arrivals_curve, requests_per_second). That is what the waits of a
// drain are decided by, but for bytes that are on their way and the deaths of containers; a stop that was held by one of those does not
// come out as it was recorded, and [Recorded.Replays] says so.
//
// What would have come after the recorded stop let its first container go nobody knows: a replay that is not over half a second later is
// Open, and only its least is known.
package replay

import (
	"math"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/timeline"
)

// Settings are those of the agent's that a replay may change.
type Settings struct {
	Propagation, AnnounceMax     time.Duration
	QuietMin, QuietMax, Exposure time.Duration
	Settle, DrainMax             time.Duration
	Grace, Margin                time.Duration
	Stages                       time.Duration // the stop shares of app and proxy together
	AcceptLoss                   float64
	ProxyFirst                   bool

	GraceNamed, exposureNamed bool // what With was told holds, equal to a default or not
}

// Defaults are those of the flags.
func Defaults() Settings {
	p := drain.Defaults()
	return Settings{
		Propagation: p.Propagation, AnnounceMax: p.AnnounceMax, QuietMin: p.QuietMin, QuietMax: p.QuietMax, Exposure: p.Exposure,
		Settle: p.Settle, Grace: p.Grace, Margin: p.Margin, AcceptLoss: p.AcceptLoss, Stages: p.Containers[0].Stop + p.Containers[1].Stop,
	}
}

func (s *Settings) policy() drain.Policy {
	p := drain.Defaults()
	p.Propagation, p.AnnounceMax, p.QuietMin, p.QuietMax, p.Exposure = s.Propagation, s.AnnounceMax, s.QuietMin, s.QuietMax, s.Exposure
	p.Settle, p.DrainMax, p.Grace, p.Margin, p.AcceptLoss = s.Settle, s.DrainMax, s.Grace, s.Margin, s.AcceptLoss
	app, proxy := &p.Containers[0].Stop, &p.Containers[1].Stop
	*app = time.Duration(float64(s.Stages) * app.Seconds() / (*app + *proxy).Seconds()).Round(time.Millisecond) // divided as the defaults are
	*proxy = s.Stages - *app
	if s.ProxyFirst {
		p.Containers[0].Stage, p.Containers[1].Stage = 1, 0
	}
	return p
}

// Recorded is a stop as its verdict tells it.
type Recorded struct {
	release, total time.Duration
	inFlight       [][2]int64
	arrivals       [][4]int64
	perSecond      float64
	cut            bool // the deadline ended it
}

// Read takes what a verdict tells; false where it has not what a replay needs.
func Read(v *timeline.Verdict) (*Recorded, bool) {
	if v == nil || v.Outcome != "clean" && v.Outcome != "deadline" || len(v.ArrivalsCurve) == 0 || len(v.InFlightCurve) == 0 || v.RequestsPerSecond == nil {
		return nil, false
	}
	if _, told := Release(v); len(v.Phases) > 0 && !told || !Plausible(v.TotalMS) || !Rising(v.InFlightCurve) || !Rising(v.ArrivalsCurve) || !(*v.RequestsPerSecond >= 0 && *v.RequestsPerSecond <= mostCounted) {
		return nil, false
	}
	r := &Recorded{inFlight: v.InFlightCurve, arrivals: v.ArrivalsCurve, perSecond: *v.RequestsPerSecond, total: ms(v.TotalMS), cut: v.Outcome == "deadline"}
	r.release, _ = Release(v)
	return r, true
}

// Verdicts come from pods, which may write anything: with what no agent can have measured nobody computes.
const (
	longest     = 7 * 24 * time.Hour
	mostCounted = 1 << 40
)

// Plausible reports whether a stop can have taken so many milliseconds.
func Plausible(ms int64) bool { return ms >= 0 && ms <= longest.Milliseconds() }

// Rising reports whether a curve's times do not decrease and all its numbers can have been counted.
func Rising[P [2]int64 | [4]int64](curve []P) bool {
	before := int64(0)
	for _, p := range curve {
		if p[0] < before || !Plausible(p[0]) {
			return false
		}
		before = p[0]
		for i := 1; i < len(p); i++ {
			if p[i] < 0 || p[i] > mostCounted {
				return false
			}
		}
	}
	return true
}

// Release is when the first hook was answered, counted from T0; false where the verdict does not tell, or tells what cannot be.
func Release(v *timeline.Verdict) (at time.Duration, known bool) {
	if _, known = v.Phases["stopping"]; !known {
		return 0, false
	}
	for _, phase := range []string{"confirming", "holding", "announcing", "draining", "settling"} {
		if !Plausible(v.Phases[phase]) {
			return 0, false
		}
		at += ms(v.Phases[phase])
	}
	return at, Plausible(v.TotalMS) && at <= ms(v.TotalMS)+time.Second
}

// Cut reports whether the deadline ended the stop: how long it would have taken nobody knows.
func (r *Recorded) Cut() bool { return r.cut }

// Replays reports whether the recorded stop comes out as it was recorded, under the settings that it had.
func (r *Recorded) Replays(under Settings) bool {
	again := Play(r, under)
	off := (again.Release - r.release).Abs()
	if again.Open { // other settings held it; how long one would have taken that the deadline cut nobody knows anyway
		return r.cut
	}
	return off <= max(500*time.Millisecond, r.release/10)
}

// Stop is what a replay comes to: from the least to the most, where the recording leaves both possible.
type Stop struct {
	Release  time.Duration    // the first hook's answer, counted from T0
	Total    [2]time.Duration // to the verdict
	Lost     [2]int64         // requests
	Deadline bool             // the budget ended it
	Open     bool             // it was not over when the recording ended: this is the least of all it may come to
}

// Play plays a stop under these settings.
func Play(r *Recorded, under Settings) Stop {
	p := under.policy()
	w := &world{recorded: r, p: &p}
	release, deadline, over := w.run()
	s := Stop{Release: release, Deadline: deadline, Open: !over}
	tail := max(r.total-r.release, 0)
	period := drain.Steadily.Every(poll) // what is seen may have happened so much earlier, and may be seen so much later
	s.Total = [2]time.Duration{max(0, release+tail-period), release + tail + period}
	if under.ProxyFirst { // a native sidecar gets its SIGTERM after the app whatever its hook says: its share is waited for in vain
		s.Total[1] += p.Containers[1].Stop
		if r.serves(release, release+p.Containers[1].Stop) { // and it serves on: the app may be in the middle of something, for as long as its share
			s.Total[1] += p.Containers[0].Stop
		}
	}
	if deadline { // by drain-max or by the grace period: each stage may need its share
		s.Total[1] = max(s.Total[1], release+p.Budget().Hard-p.Budget().Stop+period)
	}
	s.Lost = r.met(&p, release, tail, deadline)
	return s
}

// met is how many requests a first answer at that time meets. Those in flight are lost if the budget ends the drain, unless the app ends
// them within its share. Those that come until the last process of the stop has ended are: at the most all of them. A connection that
// is opened after that is refused. A native proxy that is told first goes on until the app has ended, which is told once the proxy's share is
// over: whether a pod's proxy is one the recording does not tell, so the most is that of both.
func (r *Recorded) met(p *drain.Policy, release, tail time.Duration, deadline bool) (lost [2]int64) {
	most := func(from, window time.Duration) int64 { return max(0, r.at(from + window)[0]-r.at(from)[0]) }
	refused := func(window time.Duration) int64 { return max(0, r.at(math.MaxInt64)[1]-r.at(release + window)[1]) }
	window := max(tail, p.Exposure)
	lost[0], lost[1] = refused(window), most(release, window)+refused(window)
	if p.Containers[0].Stage > p.Containers[1].Stage {
		share := p.Containers[1].Stop
		lost[0], lost[1] = refused(share+window), max(most(release, p.Exposure)+refused(p.Exposure), most(release+share, window)+refused(share+window))
	}
	if deadline {
		lost[0] += r.flying(release + p.Containers[0].Stop)
		lost[1] = max(lost[0], lost[1]+r.flying(release))
	}
	return lost
}

// at is what was read last before a moment: requests, new connections, connections open.
func (r *Recorded) at(t time.Duration) (n [3]int64) {
	n = [3]int64{2: r.arrivals[0][3]}
	for _, p := range r.arrivals {
		if ms(p[0]) > t {
			break
		}
		n = [3]int64(p[1:])
	}
	return n
}

// serves reports whether a request came, or was in flight, between two moments.
func (r *Recorded) serves(from, until time.Duration) bool {
	return r.flying(until) > 0 || r.at(until)[0] > r.at(from)[0]
}

// flying is what was in flight at a moment.
func (r *Recorded) flying(t time.Duration) int64 {
	n := r.inFlight[0][1]
	for _, p := range r.inFlight {
		if ms(p[0]) > t {
			break
		}
		n = p[1]
	}
	return n
}

func ms(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
