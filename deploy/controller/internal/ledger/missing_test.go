package ledger

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// A thousand stops, with the controller killed at random between any two changes, on a store that stays: each pod has one row, each
// verdict that a status showed while somebody watched is that row, all else is unknown, and the sums agree.
func TestNoStopIsMissing(t *testing.T) {
	for _, seed := range []uint64{1, 2, 3} {
		random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // reproducible on purpose
		store := open(t, "memory", Limits{Age: 10_000 * time.Hour, Rows: 10_000, Workloads: 10})
		c := watching(t, store)
		up := true
		there := map[string]*corev1.Pod{}
		want := map[string]string{}
		noticed := map[string]bool{} // somebody watched at least once while it lived
		change := func(uid string, next *corev1.Pod) {
			before := there[uid]
			there[uid] = next
			switch {
			case next == nil:
				delete(there, uid)
				if up {
					c.at.OnDelete(before)
				}
			case !up:
			case before == nil:
				c.at.OnAdd(next, false)
			default:
				c.at.OnUpdate(before, next)
			}
			if up {
				noticed[uid] = true
			}
		}
		toggle := func() {
			if up = !up; !up {
				return
			}
			c = watching(t, store) // a new process
			for uid, p := range there {
				c.at.OnAdd(p, true)
				noticed[uid] = true
				if message := endOf(p); message != "" {
					want[uid] = "clean"
				}
			}
			if err := c.book.compare(t.Context(), func(p Pod) bool { return there[p.UID] != nil }); err != nil {
				t.Fatal(err)
			}
		}
		maybe := func() {
			if random.IntN(20) == 0 {
				toggle()
			}
		}
		for i := range 1000 {
			uid := fmt.Sprint("p", i)
			change(uid, stripped(running(uid)))
			maybe()
			change(uid, stripped(running(uid, deleting)))
			maybe()
			if random.IntN(10) > 0 { // else it is killed without a word
				change(uid, stripped(running(uid, deleting, ends(said("clean", 5)))))
				if up {
					want[uid] = "clean"
				}
				maybe()
			}
			change(uid, nil)
			maybe()
		}
		if !up {
			toggle()
		}
		if err := settle(t.Context(), store, time.Now(), func(p Pod) bool { return there[p.UID] != nil }, c.book.tell); err != nil {
			t.Fatal(err)
		}
		verdicts, unknowns := 0, 0
		page, err := store.Drains(t.Context(), Query{Limit: 2000})
		if err != nil {
			t.Fatal(err)
		}
		for _, raw := range page.Items {
			s := rowOf(t, raw)
			if !noticed[s.UID] {
				t.Errorf("%s: nobody can know of it", s.UID)
			}
			delete(noticed, s.UID)
			switch {
			case s.Outcome == unknown && want[s.UID] == "":
				unknowns++
			case s.Outcome == want[s.UID]:
				verdicts++
			default:
				t.Errorf("%s: %s, want %q", s.UID, s.Outcome, want[s.UID])
			}
		}
		if len(noticed) > 0 {
			t.Errorf("seed %d: without a row: %v", seed, noticed)
		}
		sums := totals(t, store)
		if sums["web stops:clean"] != int64(verdicts) || sums["web stops:unknown"] != int64(unknowns) || verdicts == 0 || unknowns == 0 {
			t.Errorf("seed %d: %d verdicts, %d unknown, sums %v", seed, verdicts, unknowns, sums)
		}
		if live, _ := store.Pods(t.Context()); len(live) > 0 {
			t.Errorf("seed %d: %d still live", seed, len(live))
		}
	}
}

func endOf(p *corev1.Pod) string {
	if s := p.Status.ContainerStatuses; len(s) > 0 && s[0].State.Terminated != nil {
		return s[0].State.Terminated.Message
	}
	return ""
}
