package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/scripts/pgtest"
)

// Each test of the suite gets an empty store of each kind.
var suite = map[string]func(t *testing.T, open func(Limits) Store){
	"a stop has one row":                    testOneRow,
	"a verdict replaces an unknown":         testVerdictReplaces,
	"pods are remembered until they stop":   testPods,
	"filters and pages":                     testPages,
	"rollouts add up":                       testRollouts,
	"rows are removed by age and by number": testPrune,
	"what was removed does not come back":   testOldNews,
	"sums outlive rows":                     testTotals,
	"workloads with sums are bounded":       testWorkloads,
	"two writers":                           testTwoWriters,
	"texts that somebody invented":          testInventedTexts,
}

func TestStore(t *testing.T) {
	for kind, name := range map[string]func(t *testing.T) func() string{
		"memory": func(*testing.T) func() string { return func() string { return "memory" } },
		"sqlite": func(t *testing.T) func() string {
			n := 0
			dir := t.TempDir()
			return func() string { n++; return fmt.Sprintf("sqlite:%s", filepath.Join(dir, fmt.Sprint(n))) }
		},
		"postgres": func(t *testing.T) func() string { return pgtest.Start(t).NewDatabase },
	} {
		t.Run(kind, func(t *testing.T) {
			next := name(t)
			for what, test := range suite {
				t.Run(what, func(t *testing.T) {
					at := next()
					test(t, func(l Limits) Store { return open(t, at, l) })
				})
			}
		})
	}
}

func open(t testing.TB, name string, l Limits) Store {
	t.Helper()
	s, err := Open(t.Context(), name, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

var (
	bounded = Limits{Age: 24 * time.Hour, Rows: 1000, Workloads: 10}
	noon    = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

// stopAt is a clean stop of a pod of deployment web, seconds after noon.
func stopAt(uid string, seconds int, change ...func(*Stop)) *Stop {
	s := &Stop{
		ID: uid, PodStopped: true, Outcome: "clean", EndedAt: Moment{noon.Add(time.Duration(seconds) * time.Second)}, TotalMS: new(int64(seconds * 1000)),
		Cut: new(int64(0)), Late: new(int64(0)), Whole: true, Verdict: json.RawMessage(`{"msg":"verdict"}`),
		Pod: Pod{UID: uid, Namespace: "shop", Name: "web-" + uid, Node: "n1", Workload: Workload{Kind: "Deployment", Name: "web"}, Revision: "r1"},
	}
	for _, f := range change {
		f(s)
	}
	return s
}

func add(t testing.TB, s Store, stops ...*Stop) (added int) {
	t.Helper()
	for _, stop := range stops {
		is, err := s.Add(t.Context(), stop)
		if err != nil {
			t.Fatal(err)
		}
		if is {
			added++
		}
	}
	return added
}

// ids of all rows that a query shows, page after page.
func ids(t testing.TB, s Store, q Query) (all []string) {
	t.Helper()
	q.Limit = max(q.Limit, 1)
	for {
		page, err := s.Drains(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Items) > q.Limit {
			t.Fatalf("%d rows on a page of %d", len(page.Items), q.Limit)
		}
		for _, raw := range page.Items {
			all = append(all, rowOf(t, raw).ID)
		}
		if q.After = page.Next; page.Next == "" {
			return all
		}
		if len(all) > 10_000 {
			t.Fatal("pages without end")
		}
	}
}

func rowOf(t testing.TB, raw json.RawMessage) (s Stop) {
	t.Helper()
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return s
}

func totals(t testing.TB, s Store) map[string]int64 {
	t.Helper()
	all, err := s.Totals(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int64{}
	for _, one := range all {
		out[one.Workload+" "+one.Name] = one.Value
	}
	return out
}

func testOneRow(t *testing.T, open func(Limits) Store) {
	s := open(bounded)
	if n := add(t, s, stopAt("a", 1), stopAt("a", 1), stopAt("a", 2)); n != 1 {
		t.Errorf("%d rows were new", n)
	}
	restart := stopAt("a", 0, func(s *Stop) { s.ID, s.PodStopped, s.Outcome = "a/1", false, "container_restart" })
	if n := add(t, s, restart, restart); n != 1 {
		t.Errorf("%d drains were new", n)
	}
	if got := ids(t, s, Query{Limit: 10}); !slices.Equal(got, []string{"a", "a/1"}) {
		t.Errorf("rows %v", got)
	}
	if sums := totals(t, s); sums["web stops:clean"] != 1 || sums["web stops:container_restart"] != 0 {
		t.Errorf("sums %v", sums)
	}
}

func testVerdictReplaces(t *testing.T, open func(Limits) Store) {
	s := open(bounded)
	none := lost(stopAt("a", 0).Pod, "gone", noon)
	if n := add(t, s, none, stopAt("a", 5), none, none); n != 2 {
		t.Errorf("%d rows were new", n)
	}
	page, err := s.Drains(t.Context(), Query{Limit: 10})
	if err != nil || len(page.Items) != 1 {
		t.Fatalf("%d rows, %v", len(page.Items), err)
	}
	if row := rowOf(t, page.Items[0]); row.Outcome != "clean" || row.EndedAt.Time != noon.Add(5*time.Second) {
		t.Errorf("row %+v", row)
	}
}

func testPods(t *testing.T, open func(Limits) Store) {
	s := open(bounded)
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	a, b, c := stopAt("a", 0).Pod, stopAt("b", 0).Pod, stopAt("c", 0).Pod
	check("saw", s.Saw(t.Context(), a))
	check("saw", s.Saw(t.Context(), b))
	check("saw", s.Saw(t.Context(), c))
	a.Node = "n2"
	check("saw again", s.Saw(t.Context(), a))
	check("gone", s.Gone(t.Context(), b, "first", noon))
	check("gone again", s.Gone(t.Context(), b, "second", noon.Add(time.Hour)))
	check("forget", s.Forget(t.Context(), c.UID))
	live, err := s.Pods(t.Context())
	if check("pods", err); len(live) != 1 || live[0] != a {
		t.Errorf("live %+v", live)
	}
	early, err := s.Lost(t.Context(), noon.Add(-time.Millisecond))
	if check("lost", err); len(early) != 0 {
		t.Errorf("lost too early: %+v", early[0])
	}
	gone, err := s.Lost(t.Context(), noon)
	if check("lost", err); len(gone) != 1 || gone[0].UID != "b" || gone[0].Reason != "second" || !gone[0].EndedAt.Equal(noon) || gone[0].Outcome != "unknown" {
		t.Fatalf("lost %+v", gone)
	}
	check("back", s.Saw(t.Context(), b)) // another watch was ahead
	if gone, _ := s.Lost(t.Context(), noon.Add(time.Hour)); len(gone) != 0 {
		t.Errorf("lost although it is back: %+v", gone[0])
	}
	add(t, s, stopAt("a", 1), stopAt("b", 1))
	if live, _ := s.Pods(t.Context()); len(live) != 0 {
		t.Errorf("still remembered: %+v", live)
	}
}

func testPages(t *testing.T, open func(Limits) Store) {
	s := open(bounded)
	other := func(s *Stop) {
		s.Namespace, s.Workload, s.Outcome, s.Node, s.Revision = "bank", Workload{Kind: "StatefulSet", Name: "db"}, "deadline", "n2", "r2"
	}
	add(t, s, stopAt("a", 1), stopAt("b", 2, other), stopAt("c", 2), stopAt("d", 2), stopAt("e", 3, other), stopAt("f", 4, func(s *Stop) { s.PodStopped, s.Outcome = false, "aborted" }))
	for want, q := range map[string]Query{
		"f e d c b a": {},
		"e b":         {Namespace: "bank"},
		"e b ":        {Kind: "StatefulSet", Workload: "db", Node: "n2", Revision: "r2"},
		"c":           {Pod: "web-c"},
		"f e b":       {Outcomes: []string{"deadline", "aborted"}},
		"d c b":       {Since: noon.Add(2 * time.Second), Until: noon.Add(3 * time.Second)},
		"f":           {Stopped: new(false)},
		"":            {Namespace: "' or 1=1 --"},
	} {
		for _, limit := range []int{1, 2, 100} {
			q.Limit = limit
			if got := strings.Join(ids(t, s, q), " "); got != strings.TrimSpace(want) {
				t.Errorf("%+v: %s, want %s", q, got, want)
			}
		}
	}
	for _, after := range []string{"%", "e30", cursor(1), cursor("a", "b")} {
		if _, err := s.Drains(t.Context(), Query{Limit: 1, After: after}); err == nil {
			t.Errorf("page after %q", after)
		}
		if _, err := s.Rollouts(t.Context(), Query{Limit: 1, After: after}); err == nil {
			t.Errorf("rollouts after %q", after)
		}
	}
}

func testRollouts(t *testing.T, open func(Limits) Store) {
	s := open(bounded)
	for i := 1; i <= 20; i++ { // 1 s … 20 s
		add(t, s, stopAt(fmt.Sprint("a", i), i))
	}
	add(t, s, lost(stopAt("lost", 0).Pod, "gone", noon.Add(time.Minute)),
		stopAt("cut", 30, func(s *Stop) { s.Outcome, s.Cut, s.Late = "deadline", new(int64(7)), nil }),
		stopAt("new", 31, func(s *Stop) { s.Outcome = "of a later edition" }),
		stopAt("next", 90, func(s *Stop) { s.Revision = "r2" }), stopAt("blind", 95, func(s *Stop) { s.Revision, s.TotalMS, s.Cut, s.Late = "r3", nil, nil, nil }),
		stopAt("restart", 99, func(s *Stop) { s.PodStopped = false }))
	var all []Rollout
	for q := (Query{Limit: 1}); ; {
		page, err := s.Rollouts(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page.Items...)
		if q.After = page.Next; q.After == "" {
			break
		}
	}
	if len(all) != 3 || all[0].Revision != "r3" || all[1].Revision != "r2" {
		t.Fatalf("rollouts %+v", all)
	}
	if r := all[0]; r.P50 != nil || r.Max != nil || r.Cut != nil || r.Late != nil || r.Stops != 1 || r.Timed != 0 {
		t.Errorf("unknown became a number: %+v", r)
	}
	r := all[2]
	if want := map[string]int{"clean": 20, "unknown": 1, "deadline": 1, "other": 1}; !maps.Equal(r.Outcomes, want) || r.Stops != 23 {
		t.Errorf("%d stops, outcomes %v, want %v", r.Stops, r.Outcomes, want)
	}
	if *r.P50 != 11_000 || *r.P95 != 30_000 || *r.Max != 31_000 || r.Timed != 22 {
		t.Errorf("p50 %d, p95 %d, max %d of %d", *r.P50, *r.P95, *r.Max, r.Timed)
	}
	if *r.Cut != 7 || r.CutOf != 22 || *r.Late != 0 || r.LateOf != 21 || !r.First.Equal(noon.Add(time.Second)) || !r.Last.Equal(noon.Add(time.Minute)) {
		t.Errorf("sums %+v", r)
	}
	sum, err := s.Sums(t.Context(), Query{Limit: 1, After: "x"}) // of all pages, without the drain that its pod outlived
	if err != nil || sum.Stops != 25 || sum.Outcomes["clean"] != 22 || sum.Outcomes[unknown] != 1 || sum.Cut != 7 || sum.CutOf != 23 || sum.Late != 0 || sum.LateOf != 22 {
		t.Errorf("sums %+v, %v", sum, err)
	}
	if sum, err = s.Sums(t.Context(), Query{Revision: "r3"}); err != nil || sum.Stops != 1 || sum.CutOf != 0 {
		t.Errorf("sums of r3 %+v, %v", sum, err)
	}
}

func testPrune(t *testing.T, open func(Limits) Store) {
	s := open(Limits{Age: time.Hour, Rows: 3, Workloads: 10})
	prune := func(at time.Time) {
		t.Helper()
		if err := s.Prune(t.Context(), at); err != nil {
			t.Fatal(err)
		}
	}
	prune(noon)
	add(t, s, stopAt("a", 1), stopAt("b", 1), stopAt("c", 2), stopAt("d", 3))
	prune(noon.Add(time.Minute))
	if got := ids(t, s, Query{}); !slices.Equal(got, []string{"d", "c", "b"}) {
		t.Errorf("of four rows three should be left, the newest: %v", got)
	}
	prune(noon.Add(time.Hour + 2500*time.Millisecond))
	if got := ids(t, s, Query{}); !slices.Equal(got, []string{"d"}) {
		t.Errorf("rows of the last hour: %v", got)
	}
	if totals(t, s)["web stops:clean"] != 4 {
		t.Errorf("sums go with the last stop, not with the rows: %v", totals(t, s))
	}
	prune(noon.Add(2 * time.Hour))
	if got := totals(t, s); len(got) != 0 {
		t.Errorf("sums of a workload that has not stopped for an hour: %v", got)
	}
}

func testOldNews(t *testing.T, open func(Limits) Store) {
	s := open(Limits{Age: time.Hour, Rows: 1, Workloads: 10})
	add(t, s, stopAt("a", 1), stopAt("b", 2))
	if err := s.Prune(t.Context(), noon); err != nil {
		t.Fatal(err)
	}
	old := func(s *Stop) { s.old = true }
	if n := add(t, s, stopAt("a", 1, old)); n != 0 {
		t.Error("a row that was removed came back")
	}
	if n := add(t, s, stopAt("c", 3, old)); n != 1 {
		t.Error("a row that was never there is missing")
	}
	if got := totals(t, s)["web stops:clean"]; got != 3 {
		t.Errorf("%d stops were counted of 3", got)
	}
}

func testTotals(t *testing.T, open func(Limits) Store) {
	s := open(bounded)
	add(t, s, stopAt("a", 2), stopAt("b", 3, func(s *Stop) { s.Cut, s.Late = new(int64(5)), nil }), stopAt("c", 4000, func(s *Stop) { s.Outcome = "made\nup" }),
		lost(stopAt("d", 0).Pod, "gone", noon))
	want := map[string]int64{
		"web all": 4, "web stops:clean": 2, "web stops:other": 1, "web stops:unknown": 1, "web count": 3, "web sum_ms": 4_005_000, "web le:2000": 1, "web le:5000": 1,
		"web cut": 5, "web late": 0, "web unread:cut": 1, "web unread:late": 2,
	}
	for _, workload := range []string{"web", "young", "young"} { // of pods that live: of the second one nothing is counted yet
		if err := s.Saw(t.Context(), stopAt(workload+"2", 0, func(s *Stop) { s.Workload.Name = workload }).Pod); err != nil {
			t.Fatal(err)
		}
	}
	want["young stops:clean"] = 0
	if err := s.Prune(t.Context(), noon.Add(1000*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if got := totals(t, s); !maps.Equal(got, want) {
		t.Errorf("sums %v\nwant %v", got, want)
	}
}

func testWorkloads(t *testing.T, open func(Limits) Store) {
	s := open(Limits{Age: time.Hour, Rows: 100, Workloads: 2})
	for i, name := range []string{"a", "b", "c", "d", "a", "c"} {
		add(t, s, stopAt(fmt.Sprint(i), i, func(s *Stop) { s.Workload.Name = name }))
	}
	got := totals(t, s)
	if got["a stops:clean"] != 2 || got["b stops:clean"] != 1 || got["other stops:clean"] != 3 || got["c stops:clean"] != 0 {
		t.Errorf("sums %v", got)
	}
}

// Two replicas write the same hundred stops and unknowns, each in its own order, while rows are removed and read.
func testTwoWriters(t *testing.T, open func(Limits) Store) {
	first := open(bounded)
	second := open(bounded)
	if page, err := second.Drains(t.Context(), Query{Limit: 1}); err != nil || len(page.Items) > 0 {
		t.Fatalf("%v, %v", page, err)
	}
	add(t, first, stopAt("shared?", 0))
	if len(ids(t, second, Query{})) == 0 {
		second = first // in memory each has its own
	}
	var all sync.WaitGroup
	added := make([]int, 2)
	for i, s := range []Store{first, second} {
		all.Go(func() {
			for n := range 100 {
				if i == 1 {
					n = 99 - n
				}
				stop := stopAt(fmt.Sprint(n), n, func(s *Stop) { s.Workload.Name = fmt.Sprint("w", n%3) })
				is, err := s.Add(context.WithoutCancel(t.Context()), stop)
				if err != nil {
					t.Errorf("add: %v", err)
				}
				if is {
					added[i]++
				}
				if err := s.Prune(context.WithoutCancel(t.Context()), noon.Add(time.Hour)); err != nil {
					t.Errorf("prune: %v", err)
				}
			}
		})
	}
	all.Wait()
	if added[0]+added[1] != 100 || len(ids(t, first, Query{Limit: 1000})) != 101 {
		t.Errorf("%v were new, %d rows", added, len(ids(t, first, Query{Limit: 1000})))
	}
	sum := int64(0)
	for name, n := range totals(t, first) {
		if strings.HasSuffix(name, "stops:clean") {
			sum += n
		}
	}
	if sum != 101 {
		t.Errorf("%d stops were counted of 101", sum)
	}
}

// A name that is no store is one clear error that shows no password.
func TestNameOfTheStore(t *testing.T) {
	for _, name := range []string{"", "sqlite:", "mysql://u:secret@h/d", "postgres://u:secret@h:port/d", "file:" + filepath.Join(t.TempDir(), "none")} {
		if err := Check(name); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", name, err)
		}
	}
}
