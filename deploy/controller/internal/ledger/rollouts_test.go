package ledger

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// A rollout is told once, when its last pod has a row and the workload lives on, with its sum; a scale-down, a deletion and Jobs are none.
func TestRolloutIsToldOnceItIsOver(t *testing.T) {
	s, k := open(t, "memory", Limits{Age: 24 * time.Hour, Rows: 1000, Workloads: 10}), &kube{}
	over := noon.Add(5 * time.Minute)
	said := func(now time.Time) (events []string) {
		t.Helper()
		k.made = nil
		r := &rollouts{store: s, teller: newTeller(k, slog.New(slog.DiscardHandler), func() {}), quiet: time.Minute, told: map[revisionKey]time.Time{}}
		for range 2 {
			if err := r.tell(t.Context(), now); err != nil {
				t.Fatal(err)
			}
		}
		for _, e := range k.made {
			events = append(events, e.Type+" "+e.Reason+" "+e.InvolvedObject.Kind+"/"+e.InvolvedObject.Name+": "+e.Message)
		}
		return events
	}
	for i := range 10 {
		add(t, s, stopAt(fmt.Sprint("a", i), 10+i, func(s *Stop) {
			if s.Revision = "old"; i == 3 {
				s.Outcome, s.Cut = "deadline", new(int64(2))
			}
		}))
	}
	saw := func(uid, revision string, change ...func(*Pod)) {
		p := stopAt(uid, 0).Pod
		p.Revision = revision
		for _, f := range change {
			f(&p)
		}
		if err := s.Saw(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	if got := said(over); len(got) > 0 {
		t.Errorf("no pod of the workload is left: %q", got)
	}
	saw("b", "new")
	saw("a10", "old")
	if got := said(over); len(got) > 0 {
		t.Errorf("one of the old pods is left: %q", got)
	}
	gone := stopAt("a10", 0).Pod
	gone.Revision = "old"
	if err := s.Gone(t.Context(), gone, "killed", noon.Add(20*time.Second)); err != nil {
		t.Fatal(err)
	}
	if got := said(over); len(got) > 0 {
		t.Errorf("one of the old pods has no row yet: %q", got)
	}
	add(t, s, lost(gone, "killed", noon.Add(20*time.Second)))
	if got := said(noon.Add(30 * time.Second)); len(got) > 0 {
		t.Errorf("the last one has just stopped: %q", got)
	}
	got := said(over)
	want := "Warning RolloutNotClean Deployment/web: 11 pods of revision old have stopped: 9 clean, 1 deadline, 1 unknown; seconds per stop p50 1"
	if len(got) != 1 || !strings.HasPrefix(got[0], want) || !strings.Contains(got[0], "; 2 requests were cut off in the 10 stops that say it") {
		t.Errorf("%q, want one that begins with %q", got, want)
	}
	first := k.made[0].Name
	if said(over.Add(time.Minute)); len(k.made) != 1 || k.made[0].Name != first {
		t.Errorf("a controller that was started again names it otherwise: %v", k.made)
	}
	if got := said(over.Add(2 * eventLife)); len(got) > 0 {
		t.Errorf("long ago: %q", got)
	}
	add(t, s, stopAt("j", 30, func(s *Stop) { s.Workload.Kind, s.Revision = "Job", "once" }))
	saw("j2", "again", func(p *Pod) { p.Workload.Kind = "Job" })
	add(t, s, stopAt("n", 30, func(s *Stop) { s.Workload.Name, s.Revision = "bare", "" }))
	saw("n2", "", func(p *Pod) { p.Workload.Name = "bare" })
	if got := said(over); len(got) != 1 {
		t.Errorf("jobs, and pods of no revision: %q", got)
	}
}

// A revision that was rolled out, came back and is rolled out again is told with the stops of this time alone, by whoever was there before
// and by a controller that was not; and two replicas that saw an unknown stop end at other moments make one Event.
func TestRolloutIsToldAlone(t *testing.T) {
	limits := Limits{Age: 24 * time.Hour, Rows: 1000, Workloads: 10}
	s, k := open(t, "memory", limits), &kube{}
	fresh := func() *rollouts {
		return &rollouts{store: s, teller: newTeller(k, slog.New(slog.DiscardHandler), func() {}), quiet: time.Minute, told: map[revisionKey]time.Time{}}
	}
	tell := func(r *rollouts, seconds int) *corev1.Event {
		t.Helper()
		k.made = nil
		if err := r.tell(t.Context(), noon.Add(time.Duration(seconds)*time.Second)); err != nil || len(k.made) != 1 {
			t.Fatalf("%v, %d Events", err, len(k.made))
		}
		return k.made[0]
	}
	live := func(uid, revision string, made int) {
		p := stopAt(uid, 0).Pod
		p.Revision, p.GraceS, p.Created = revision, new(int64(30)), Moment{noon.Add(time.Duration(made) * time.Second)}
		if err := s.Saw(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	stop := func(uid, revision, outcome string, at int) {
		add(t, s, stopAt(uid, at, func(s *Stop) { s.Revision, s.Outcome = revision, outcome }))
	}
	for i := range 3 {
		stop(fmt.Sprint("a", i), "a", "deadline", 30+i)
	}
	live("b", "b", 20)
	stays := fresh()
	if e := tell(stays, 200); !strings.Contains(e.Message, "3 pods of revision a have stopped: 3 deadline") {
		t.Errorf("first %s", e.Message)
	}
	stop("b", "b", "clean", 500) // back
	live("b2", "b", 700)
	for i := range 3 {
		stop(fmt.Sprint("a-", i), "a", "clean", 690+10*i) // the first before its successor is there
	}
	for who, r := range map[string]*rollouts{"that was there": stays, "that was not": fresh()} {
		if e := tell(r, 800); e.Reason != "RolloutClean" || !strings.Contains(e.Message, "3 pods of revision a have stopped: 3 clean") {
			t.Errorf("again, from one %s: %s %s", who, e.Reason, e.Message)
		}
	}
	names := map[string]bool{}
	for i := range 2 {
		s = open(t, "memory", limits)
		stop("c", "c", "clean", 10)
		add(t, s, lost(stopAt("c2", 0, func(s *Stop) { s.Revision = "c" }).Pod, "killed", noon.Add(time.Duration(20+i)*time.Second)))
		live("d", "d", 5)
		names[tell(fresh(), 200).Name] = true
	}
	if len(names) != 1 {
		t.Errorf("two Events: %v", names)
	}
}
