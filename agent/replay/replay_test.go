package replay

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/timeline"
)

// stop is recorded: a pool of which the last request came at 3 s, one connection of it stays open; let go ten seconds after that.
func stop(t *testing.T, change func(*timeline.Verdict)) *Recorded {
	t.Helper()
	v := timeline.Verdict{
		Outcome: "clean", TotalMS: 13_400, Phases: map[string]int64{"announcing": 500, "draining": 12_500, "settling": 200, "stopping": 200},
		InFlightCurve: [][2]int64{{0, 0}, {2000, 1}, {2100, 0}, {13_200, 0}},
		ArrivalsCurve: [][4]int64{{0, 0, 0, 3}, {2000, 1, 0, 3}, {2950, 1, 0, 2}, {3000, 2, 0, 1}, {13_400, 2, 0, 1}}, RequestsPerSecond: new(1.0),
	}
	change(&v)
	r, ok := Read(&v)
	if !ok {
		t.Fatalf("%+v cannot be replayed", v)
	}
	return r
}

func TestPlay(t *testing.T) {
	for setting, want := range map[string]struct {
		from, to time.Duration
		lost     [2]int64
		open     bool
	}{
		"":                              {13 * time.Second, 13500 * time.Millisecond, [2]int64{}, false},
		"quiet-max=1200ms":              {2850 * time.Millisecond, 2990 * time.Millisecond, [2]int64{0, 1}, false}, // the last request meets a pod that ends
		"quiet-max=5s":                  {6600 * time.Millisecond, 6800 * time.Millisecond, [2]int64{}, false},
		"accept-loss=0.001":             {13500 * time.Millisecond, 14 * time.Second, [2]int64{}, true},
		"grace-period=11s margin=100ms": {3800 * time.Millisecond, 3950 * time.Millisecond, [2]int64{}, false}, // the budget: 11 s less 7 s and the margin
	} {
		under, err := Defaults().With(setting)
		if err != nil {
			t.Fatal(err)
		}
		got := Play(stop(t, func(*timeline.Verdict) {}), under)
		if got.Release < want.from || got.Release > want.to || got.Lost != want.lost || got.Open != want.open || got.Deadline != strings.Contains(setting, "grace") {
			t.Errorf("%q: %+v, want %+v", setting, got, want)
		}
	}
}

// The shares of the stages are taken from the grace period: with 3.5 s of them the same one lasts until 7.4 s.
func TestStagesOfTheRecordedPod(t *testing.T) {
	under, err := Defaults().With("grace-period=11s margin=100ms")
	if err != nil {
		t.Fatal(err)
	}
	under.Stages = 3500 * time.Millisecond
	got := Play(stop(t, func(*timeline.Verdict) {}), under)
	if off := got.Release - 7400*time.Millisecond; off.Abs() > 60*time.Millisecond || !got.Deadline || got.Total[1] < 10_900*time.Millisecond || got.Total[1] > 11_100*time.Millisecond {
		t.Errorf("%+v", got)
	}
	p := under.policy()
	if p.Containers[0].Stop != 2500*time.Millisecond || p.Containers[1].Stop != time.Second || Defaults().Stages != 7*time.Second {
		t.Errorf("shares of %v and %v", p.Containers[0].Stop, p.Containers[1].Stop)
	}
}

// What other limits than the grace period end takes no longer than the shares of the stages do; a grace period of a minute says nothing of it.
func TestDrainMaxLeavesTheShares(t *testing.T) {
	under, err := Defaults().With("drain-max=1s grace-period=60s")
	if err != nil {
		t.Fatal(err)
	}
	got := Play(stop(t, func(v *timeline.Verdict) { v.InFlightCurve[2][0] = 12_000 }), under)
	if !got.Deadline || got.Total[1] < got.Release+7*time.Second || got.Total[1] > got.Release+8*time.Second {
		t.Errorf("%+v, want the shares of 7 s at the most", got)
	}
}

// A native proxy that is told first serves on; whom the end of the app meets comes after the proxy's share.
func TestProxyFirstMeetsWhatComesAfterItsShare(t *testing.T) {
	under, err := Defaults().With("stop-order=proxy,app quiet-max=1s")
	if err != nil {
		t.Fatal(err)
	}
	late := func(at int64) func(*timeline.Verdict) {
		return func(v *timeline.Verdict) {
			v.ArrivalsCurve = [][4]int64{{0, 0, 0, 3}, {at, 0, 0, 3}, {at, 1, 0, 3}, {13_400, 1, 0, 1}}
			v.InFlightCurve = [][2]int64{{0, 0}, {13_200, 0}}
		}
	}
	calm := Play(stop(t, late(13_000)), under)
	for off, lost := range map[time.Duration]int64{time.Second: 0, 2100 * time.Millisecond: 1, 4 * time.Second: 0} {
		got := Play(stop(t, late((calm.Release+off).Milliseconds())), under)
		// Up to the proxy's share later what the app is in the middle of may keep it for its own share.
		if most := got.Release + 2*time.Second + time.Second + 5*time.Second*time.Duration(count(off < 2*time.Second)); got.Total[1] < most-time.Second || got.Total[1] > most {
			t.Errorf("a request %v after the release at %v: up to %v, want up to about %v", off, got.Release, got.Total[1], most)
		}
		if got.Lost != [2]int64{0, lost} {
			t.Errorf("a request %v after the release at %v: lost %v, want up to %d", off, got.Release, got.Lost, lost)
		}
	}
}

func count(yes bool) int64 {
	if yes {
		return 1
	}
	return 0
}

func TestSlept(t *testing.T) {
	for what, row := range map[string]struct {
		change func(*timeline.Verdict)
		want   Stop
	}{
		"nothing in flight": {func(*timeline.Verdict) {}, Stop{Release: 5 * time.Second, Total: [2]time.Duration{5 * time.Second, 5500 * time.Millisecond}, Lost: [2]int64{0, 2}}},
		"two that take 1 s": {
			func(v *timeline.Verdict) { v.InFlightCurve = [][2]int64{{0, 2}, {700, 1}, {1000, 0}} },
			Stop{Release: 5 * time.Second, Total: [2]time.Duration{5 * time.Second, 6500 * time.Millisecond}, Lost: [2]int64{0, 2 + 4}},
		},
		"one that never ends": {
			func(v *timeline.Verdict) { v.InFlightCurve = [][2]int64{{0, 1}}; v.Outcome = "deadline" },
			Stop{Release: 5 * time.Second, Total: [2]time.Duration{5 * time.Second, 18_700 * time.Millisecond}, Lost: [2]int64{0, 1 + 21}, Open: true},
		},
	} {
		got := Slept(stop(t, func(v *timeline.Verdict) { row.change(v); v.Phases["stopping"], v.TotalMS = 200, 13_700 }), 5*time.Second)
		if got != row.want {
			t.Errorf("%s: %+v, want %+v", what, got, row.want)
		}
	}
	for mean, most := range map[float64]int64{0: 0, 0.5: 2, 10: 17, 100: 120, 2000: 2088} { // as tables have it
		if got := poisson(mean); got != most {
			t.Errorf("a count of %v on average is at most %d, want %d", mean, got, most)
		}
	}
}

// A stop that waited for something that no recording has does not come out as it was.
func TestWhatCannotBeReplayed(t *testing.T) {
	if !stop(t, func(*timeline.Verdict) {}).Replays(Defaults()) {
		t.Error("a usual stop does not come out as it was recorded")
	}
	if stop(t, func(v *timeline.Verdict) { v.Phases["draining"], v.TotalMS = 19_000, 20_000 }).Replays(Defaults()) {
		t.Error("nobody sees what it waited for")
	}
	sooner := func(v *timeline.Verdict) { v.Phases["draining"], v.TotalMS = 5000, 6000 }
	if stop(t, sooner).Replays(Defaults()) {
		t.Error("it was let go under other settings")
	}
	if !stop(t, func(v *timeline.Verdict) { sooner(v); v.Outcome = "deadline" }).Replays(Defaults()) {
		t.Error("a stop that the deadline cut is known to be longer than it was")
	}
	for what, change := range map[string]func(*timeline.Verdict){
		"a death":                    func(v *timeline.Verdict) { v.Outcome = "app_died" },
		"from a termination message": func(v *timeline.Verdict) { v.InFlightCurve, v.ArrivalsCurve = nil, nil },
		"of an earlier edition":      func(v *timeline.Verdict) { v.RequestsPerSecond = nil },
		"less than nothing":          func(v *timeline.Verdict) { v.InFlightCurve[0][1] = -5 },
		"before the stop":            func(v *timeline.Verdict) { v.ArrivalsCurve[0][0] = -1 },
		"less than no connections":   func(v *timeline.Verdict) { v.ArrivalsCurve[0][3] = -1 },
		"more than there are":        func(v *timeline.Verdict) { v.ArrivalsCurve[0][1] = math.MaxInt64 },
		"a negative rate":            func(v *timeline.Verdict) { v.RequestsPerSecond = new(-1.0) },
		"no rate":                    func(v *timeline.Verdict) { v.RequestsPerSecond = new(math.NaN()) },
		"time that runs back":        func(v *timeline.Verdict) { v.InFlightCurve = [][2]int64{{9, 1}, {8, 0}} },
		"a negative time":            func(v *timeline.Verdict) { v.TotalMS = -1 },
		"ten thousand million s":     func(v *timeline.Verdict) { v.TotalMS = 1e13 },
		"phases beyond its time":     func(v *timeline.Verdict) { v.Phases = map[string]int64{"draining": 9000, "stopping": 1} },
		"a phase of no time at all":  func(v *timeline.Verdict) { v.Phases = map[string]int64{"draining": -9000, "stopping": 1} },
	} {
		v := timeline.Verdict{Outcome: "clean", TotalMS: 100, InFlightCurve: [][2]int64{{0, 0}}, ArrivalsCurve: [][4]int64{{0, 0, 0, 0}}, RequestsPerSecond: new(1.0)}
		if change(&v); func() bool { _, ok := Read(&v); return ok }() {
			t.Errorf("%s is replayed", what)
		}
	}
}

func TestSettings(t *testing.T) {
	s, err := Defaults().With("--quiet-max=4s  accept-loss=0.5 stop-order=proxy,app")
	if err != nil || s.QuietMax != 4*time.Second || s.AcceptLoss != 0.5 || !s.ProxyFirst || s.Exposure != 5*time.Millisecond || s.Propagation != Defaults().Propagation {
		t.Errorf("%+v, %v", s, err)
	}
	for _, text := range []string{"exposure=300ms stop-order=proxy,app", "stop-order=proxy,app exposure=300ms"} {
		s, err := Defaults().With(text)
		if err != nil || s.Exposure != 300*time.Millisecond || s.GraceNamed {
			t.Errorf("%s: %+v, %v", text, s, err)
		}
		s, err = s.With("grace-period=30s stop-order=app,proxy") // both are the defaults
		if err != nil || s.Exposure != 300*time.Millisecond || !s.GraceNamed {
			t.Errorf("%s, then others: %+v, %v", text, s, err)
		}
	}
	if _, err := Defaults().With("foo=1 settle=soon bar=2"); err == nil || strings.Count(err.Error(), "\n") != 2 || !strings.Contains(err.Error(), "bar=2") {
		t.Errorf("not all at once: %v", err)
	}
	for _, wrong := range []string{"quiet-max", "quiet-max=soon", "quiet-max=-1s", "accept-loss=NaN", "stop-order=agent", "poll=1s"} {
		if _, err := Defaults().With(wrong); err == nil || !strings.Contains(err.Error(), wrong) || !strings.Contains(err.Error(), "write") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}
