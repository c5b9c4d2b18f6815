package simulation

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/replay"
)

// recordings are how many stops advise reads, others how many it has not seen.
const recordings, others = 40, 7

// loads are the workloads whose stops are recorded.
var loads = map[string][]clientSpec{ //nolint:gochecknoglobals // a table
	"pool":    {{Kind: pooled, Conns: 40, Every: 10 * sec, Work: 10 * ms}},
	"fresh":   {{Kind: fresh, Every: 50 * ms, Work: 10 * ms}},
	"mixed":   {{Kind: fresh, Every: 200 * ms}, {Kind: pooled, Conns: 10, Every: 3 * sec, Poisson: true}},
	"streams": {{Kind: stream, Conns: 3, Every: 5 * sec, Work: 6 * sec}},
}

// changed are the settings that advise is asked about, and the same for a pod.
var changed = map[string]func(*scenario){ //nolint:gochecknoglobals // a table
	"quiet-max=1s":                        func(sc *scenario) { sc.QuietMax = sec },
	"accept-loss=0.5":                     func(sc *scenario) { sc.AcceptLoss = 0.5 },
	"propagation=300ms":                   func(sc *scenario) { sc.Propagation = 300 * ms },
	"grace-period=12s":                    func(sc *scenario) { sc.Grace, sc.RealGrace = 12*sec, 12*sec },
	"stop-order=proxy,app exposure=200ms": func(sc *scenario) { sc.ProxyFirst = true },
	"quiet-max=1s propagation=3s":         func(sc *scenario) { sc.QuietMax, sc.Propagation = sec, 3*sec },
}

// advised is what is read of advise's JSON.
type advised struct {
	Workloads []struct {
		Grace []struct {
			Seconds *int64
			Sure    bool
		}
		Replays struct {
			Ready    int
			Censored int `json:"cut_by_deadline"`
		}
		WhatIf []struct {
			Settings   string
			Open       int `json:"not_over"`
			Confidence float64
			Took       limits `json:"total_ms"`
			Lost       limits `json:"requests_lost"`
		} `json:"what_if"`
	}
}

type limits struct {
	Low  int64
	High *int64
}

func (l limits) hold(n int64) bool { return n >= l.Low && (l.High == nil || n <= *l.High) }

// What drainctl advise prints of stops that it read holds for stops that it never saw, under other settings, of pods in virtual time: what
// they lost and how long they took lies between its bounds in nine of ten, for each setting; the grace period that it calls sure for nine
// of ten stops cuts no more than one of ten of others that really have it. The same for recordings that the deadline cut.
func TestAdviceHoldsForStopsThatItHasNotSeen(t *testing.T) {
	advise := built(t)
	inside := map[string]*[3]int{} // of a setting: times, losses, stops
	for _, load := range slices.Sorted(maps.Keys(loads)) {
		said := adviceOn(t, advise, load, 60*sec)
		w := said.Workloads[0]
		if w.Replays.Ready < recordings-2 {
			t.Errorf("%s: only %d of %d stops can be replayed", load, w.Replays.Ready, recordings)
		}
		for _, row := range w.WhatIf {
			change := changed[row.Settings]
			if change == nil {
				change = func(*scenario) {} // as recorded
			}
			in := inside[row.Settings]
			if in == nil {
				in = &[3]int{}
				inside[row.Settings] = in
			}
			was := *in
			for seed := range uint64(others) {
				p := stopUnder(t, load, 1000+seed, change)
				took, lost := p.verdicts[len(p.verdicts)-1].TotalMS, int64(len(p.lost))
				in[2]++
				if row.Took.hold(took) {
					in[0]++
				}
				if row.Lost.hold(lost) {
					in[1]++
				}
			}
			if few := others * 3 / 4; in[0]-was[0] < few || in[1]-was[1] < few { // of so few, chance takes more than one of ten now and then
				t.Errorf("%s, %s: of %d stops that were not seen %d times and %d losses lie inside", load, row.Settings, others, in[0]-was[0], in[1]-was[1])
			}
			t.Logf("%-8s %-28s %+v %v, %+v %v, not over %d", load, row.Settings, row.Took.Low, text(row.Took.High), row.Lost.Low, text(row.Lost.High), row.Open)
		}
		grace(t, load, w.Grace[0].Seconds, w.Grace[0].Sure)
	}
	for _, setting := range slices.Sorted(maps.Keys(inside)) {
		in := inside[setting]
		t.Logf("%-28s times %d, losses %d of %d inside", setting, in[0], in[1], in[2])
		if 10*in[0] < 9*in[2] || 10*in[1] < 9*in[2] {
			t.Errorf("%s: of %d stops that were not seen %d times and %d losses lie inside", setting, in[2], in[0], in[1])
		}
	}
	if len(inside) != len(changed)+1 {
		t.Errorf("%d settings, want %d", len(inside), len(changed)+1)
	}
	w := adviceOn(t, advise, "streams", 13*sec).Workloads[0] // too short for most of them
	if w.Replays.Censored == 0 || w.WhatIf[0].Open > 0 || w.Grace[0].Seconds != nil {
		t.Errorf("recordings that the deadline cut: %+v", w)
	}
	for _, row := range w.WhatIf {
		if row.Settings == "grace-period=60s" && (row.Open < w.Replays.Censored || row.Took.High != nil) {
			t.Errorf("what was cut has an end under a longer grace period: %+v, %d were cut", row, w.Replays.Censored)
		}
	}
}

// grace lets stops that were not seen really have the grace period.
func grace(t *testing.T, load string, seconds *int64, sure bool) {
	t.Helper()
	if seconds == nil || !sure {
		t.Errorf("%s: no grace period for nine of ten of %d stops, %v", load, recordings, seconds)
		return
	}
	clean := 0
	for seed := range uint64(others) {
		p := stopUnder(t, load, 5000+seed, func(sc *scenario) {
			sc.Grace = time.Duration(*seconds) * sec
			sc.RealGrace = sc.Grace
		})
		if p.verdicts[len(p.verdicts)-1].Outcome == "clean" {
			clean++
		}
	}
	t.Logf("%-8s %d of %d are clean with a grace period of %d s", load, clean, others, *seconds)
	if 10*clean < 9*others {
		t.Errorf("%s: %d of %d are clean with a grace period of %d s", load, clean, others, *seconds)
	}
}

func text(n *int64) string {
	if n == nil {
		return "?"
	}
	return fmt.Sprint(*n)
}

// adviceOn asks the program itself about the logs of recorded stops.
func adviceOn(t *testing.T, program, load string, grace time.Duration) (said advised) {
	t.Helper()
	logs, bytes := t.TempDir(), 0
	for seed := range uint64(recordings) {
		p := stopUnder(t, load, seed, func(sc *scenario) { sc.Grace, sc.RealGrace = grace, grace })
		v := *p.verdicts[len(p.verdicts)-1]
		if _, ok := replay.Read(&v); !ok {
			t.Fatalf("%s, seed %d: its verdict has not what a replay needs: %+v", load, seed, v)
		}
		with, _ := v.MarshalJSON() // never fails
		v.ArrivalsCurve, v.RequestsPerSecond = nil, nil
		without, _ := v.MarshalJSON()
		bytes += len(with) - len(without)
		if err := os.WriteFile(filepath.Join(logs, fmt.Sprintf("web-%d.jsonl", seed)), []byte(p.log.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%-8s what a replay needs takes %d bytes of a log's verdict", load, bytes/recordings)
	args := []string{"advise", "--from=" + logs, "-o", "json", "--shares=0.9", "--share=0.9", fmt.Sprintf("--recorded=grace-period=%v", grace)}
	for setting := range changed {
		args = append(args, "--try="+setting)
	}
	if grace != 60*sec {
		args = append(args, "--try=grace-period=60s")
	}
	out, err := exec.CommandContext(t.Context(), program, args...).Output()
	if err == nil {
		err = json.Unmarshal(out, &said)
	}
	if err != nil || len(said.Workloads) != 1 {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return said
}

func stopUnder(t *testing.T, load string, seed uint64, change func(*scenario)) *pod {
	t.Helper()
	sc := calm(seed)
	sc.Clients, sc.AppManner = loads[load], graceful
	change(&sc)
	return play(t, sc, false)
}
