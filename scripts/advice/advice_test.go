package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/drain-agent/drain-agent/scripts/demo/demopod"
	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

func TestMain(m *testing.M) {
	pod.Helper()
	os.Exit(m.Run())
}

// kept are the stops of the last `make advice`.
const kept = "../../docs/images/advice.jsonl.gz"

// Today's advise about the real stops that are kept: nine of ten held-out ones lie inside, for each setting, the grace periods hold their
// shares, and what the deadline cut has no end.
func TestAdviceHoldsForStopsThatAreKept(t *testing.T) {
	advise := adviserOf(t)
	e, err := readRaw(kept)
	if err != nil {
		t.Fatal(err)
	}
	j, err := judge(t.Context(), advise, e.Stops)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.wrong(); err != nil {
		t.Error(err)
	}
	if all := j.total(""); all.n < 200 || all.control > all.n*8/10 {
		t.Errorf("of %d held-out stops %d are inside what was said of the recorded setting: the settings change too little to show anything", all.n, all.control)
	}
}

// A few stops, made now; `make advice` makes hundreds. Advise's bounds hold 11 of 13 of the next stops if twelve were read.
func TestAdviceHoldsForAFewStops(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: pods in namespaces of their own")
	}
	advise := adviserOf(t)
	built, err := demopod.Build(t.Context(), advise.dir, pod.Namespaces)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newStage(t.Context(), built, advise.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	var tasks []task
	for seed := range uint64(12) {
		tasks = append(tasks, task{"mixed", 9000 + seed, asRecorded, recorded})
	}
	for i, setting := range settings() {
		tasks = append(tasks, task{"mixed", 9100 + uint64(i), setting, unseen})
	}
	stops := s.stops(t.Context(), tasks, len(tasks))
	j, err := judge(t.Context(), advise, stops)
	if err != nil {
		t.Fatal(err)
	}
	if all := j.total(""); len(stops) != len(tasks) || all.n != len(settings()) || all.took < all.n/2 || all.lost < all.n*2/3 {
		t.Errorf("%d of %d stops could be measured; %v", len(stops), len(tasks), all)
		j.write(os.Stderr)
	}
}

func adviserOf(t *testing.T) *adviser {
	t.Helper()
	dir, err := os.MkdirTemp("", "advice-") //nolint:usetesting // short: a Unix socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	advise, err := newAdviser(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return advise
}

func TestWhatIsInside(t *testing.T) {
	said := whatIf{Settings: "quiet-max=1s", Took: limits{2000, new(int64(3000))}, Lost: limits{1, nil}}
	base := whatIf{Took: limits{0, new(int64(2500))}, Lost: limits{0, new(int64(1))}}
	stops := []stop{
		{Setting: "quiet-max=1s", TookMS: 2000, Lost: 1},
		{Setting: "quiet-max=1s", TookMS: 3001, Lost: 9000},
		{Setting: "quiet-max=1s", TookMS: 1999},
		{Setting: "other", TookMS: 1},
	}
	c := compare("mixed", said, base, stops)
	if c.n != 3 || c.took != 1 || c.lost != 2 || c.both != 1 || c.control != 2 || len(c.outside) != 2 || !reflect.DeepEqual(c.measured[0], []int64{1999, 2000, 3001}) {
		t.Errorf("%+v", c)
	}
}

func TestWhatIsWrong(t *testing.T) {
	good := judgement{cut: &advised{}, said: "known only as at least", endless: 3}
	good.cut.Replays.Censored = 3
	good.again = []cell{{n: 10, took: 9, said: whatIf{Open: 3}}}
	for _, setting := range settings() {
		good.cells = append(good.cells, cell{setting: setting, n: 10, took: 9, lost: 9})
	}
	seconds := int64(20)
	good.graces = []promised{{grace: grace{Share: 0.9, Seconds: &seconds, Sure: true}, n: 30, held: 24}, {grace: grace{Share: 0.99}}}
	if err := good.wrong(); err != nil {
		t.Fatalf("nothing is wrong: %v", err)
	}
	for what, change := range map[string]func(*judgement){
		"times":                       func(j *judgement) { j.cells[1].took = 8 },
		"losses":                      func(j *judgement) { j.cells[1].lost = 8 },
		"no held-out stop":            func(j *judgement) { j.cells[1] = cell{setting: j.cells[1].setting} },
		"a grace period":              func(j *judgement) { j.graces[0].held = 22 },
		"a grace period nobody had":   func(j *judgement) { j.graces[0].n, j.graces[0].held = 0, 0 },
		"nothing was cut":             func(j *judgement) { c := *j.cut; c.Replays.Censored = 0; j.cut = &c },
		"all would have ended soon":   func(j *judgement) { j.endless = 0 },
		"what was cut has an end":     func(j *judgement) { j.again[0].said.Took.High = &seconds },
		"what was cut is over":        func(j *judgement) { j.again[0].said.Open = 2 },
		"what was cut is not told":    func(j *judgement) { j.said = "" },
		"what was cut was overstated": func(j *judgement) { j.again[0].took = 8 },
	} {
		bad := good
		bad.cells, bad.graces, bad.again = slices.Clone(good.cells), slices.Clone(good.graces), slices.Clone(good.again)
		if change(&bad); bad.wrong() == nil {
			t.Errorf("%s: nothing is said", what)
		}
	}
}

func TestStopsAreKept(t *testing.T) {
	e := experiment{When: "2026-01-02", Machine: "two cores", Stops: []stop{
		{Kind: "pool", Seed: 7, Setting: asRecorded, Use: recorded, TookMS: 2100, Sent: 9, Outcome: "clean", Verdict: json.RawMessage(`{"msg":"verdict"}`)},
		{Kind: "long", Seed: 8, Setting: "sleep 5", Use: unseen, TookMS: 5200, GoneMS: 5200, Sent: 9, Lost: 2, How: "503 2"},
	}}
	path := filepath.Join(t.TempDir(), "stops.gz")
	if err := e.writeRaw(path); err != nil {
		t.Fatal(err)
	}
	if got, err := readRaw(path); err != nil || !reflect.DeepEqual(got, e) {
		t.Errorf("read %+v, %v", got, err)
	}
	if err := os.WriteFile(path, []byte("no such thing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readRaw(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("what cannot be read: %v", err)
	}
}

// Who was settling when the deadline came would have been done at once.
func TestEndless(t *testing.T) {
	var stops []stop
	for outcome, phases := range map[string]string{"deadline": `{"draining":9}`, "clean": `{"draining":9}`} {
		stops = append(stops, stop{Outcome: outcome, Verdict: json.RawMessage(`{"phases":` + phases + `}`)})
	}
	stops = append(stops, stop{Outcome: "deadline", Verdict: json.RawMessage(`{"phases":{"draining":9,"settling":78}}`)})
	if n := endless(stops); n != 1 {
		t.Errorf("of %d nobody knows the end, want 1", n)
	}
}

// Equal seeds are equal work; no seed is used twice, and what is read stands among what is held against it.
func TestPlan(t *testing.T) {
	if a, b := draw("mixed", 5), draw("mixed", 5); !reflect.DeepEqual(a, b) || reflect.DeepEqual(a, draw("mixed", 6)) {
		t.Errorf("%+v and %+v", a, b)
	}
	seen, reads, early := map[task]bool{}, 0, 0
	all := plan(flags{Recorded: 20, Unseen: 2, Cut: 5, From: 1})
	for i, one := range all {
		if one.use == recorded {
			reads++
			early += count(i < len(all)/2)
		}
		if one.setting, one.use = "", ""; seen[one] {
			t.Errorf("seed %d of %s is used twice", one.seed, one.kind)
		}
		seen[one] = true
	}
	if want := 60 + 3*2*len(settings()) + 5; len(all) != want || early < reads/3 || early > reads*2/3 {
		t.Errorf("%d stops, want %d; %d of %d that are read stand in the first half", len(all), want, early, reads)
	}
}
