package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// A cluster is a book with a store in memory, and what its handler is told. Nothing is stripped here but by strip.
type cluster struct {
	t     *testing.T
	store Store
	book  *book
	told  []*Stop
	at    cache.ResourceEventHandlerDetailedFuncs
}

func watching(t *testing.T, store Store) *cluster {
	c := &cluster{t: t, store: store}
	l := &Ledger{log: slog.New(slog.DiscardHandler)}
	c.book = &book{
		store: store, now: func() time.Time { return noon.Add(time.Minute) }, retry: l.retry, age: bounded.Age, count: func(int) {}, pods: map[types.UID]*entry{},
		owner: func(context.Context, *corev1.Pod) (Workload, bool) {
			return Workload{Kind: "Deployment", Name: "web"}, true
		},
		tell: func(_ context.Context, s *Stop) { c.told = append(c.told, s) },
	}
	c.at = handler(t.Context(), c.book, slog.New(slog.DiscardHandler))
	return c
}

// running is a pod whose agent runs.
func running(uid string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{}
	p.Namespace, p.Name, p.UID = "shop", "web-"+uid, types.UID(uid)
	p.Spec = corev1.PodSpec{NodeName: "n1", TerminationGracePeriodSeconds: new(int64(30)), Containers: []corev1.Container{{Name: "app"}, {Name: "drain-agent"}}}
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{Name: "drain-agent", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}}
	return with(p, change...)
}

func with(p *corev1.Pod, change ...func(*corev1.Pod)) *corev1.Pod {
	p = p.DeepCopy()
	for _, f := range change {
		f(p)
	}
	return p
}

// deleting is what a deletion at noon with 30 s of grace does.
func deleting(p *corev1.Pod) {
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &metav1.Time{Time: noon.Add(30 * time.Second)}, new(int64(30))
}

func terminated(message string, code int32) *corev1.ContainerStateTerminated {
	return &corev1.ContainerStateTerminated{Message: message, ExitCode: code, Reason: "Error"}
}

func ends(message string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.ContainerStatuses[0].State = corev1.ContainerState{Terminated: terminated(message, 0)}
	}
}

func restarted(message string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.ContainerStatuses[0].LastTerminationState = corev1.ContainerState{Terminated: terminated(message, 0)}
	}
}

func phase(is corev1.PodPhase) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.Phase = is }
}

// said is a verdict some seconds after noon.
func said(outcome string, seconds int) string {
	v := full()
	v.Outcome, v.Time = outcome, noon.Add(time.Duration(seconds)*time.Second)
	return v.Termination(1024)
}

func stripped(p *corev1.Pod) *corev1.Pod {
	out, _ := strip(p) // never fails
	return out.(*corev1.Pod)
}

// rows of the ledger as "ID OUTCOME", the newest first, and pods that live or are not settled.
func (c *cluster) rows() string {
	c.t.Helper()
	page, err := c.store.Drains(c.t.Context(), Query{Limit: 1000})
	if err != nil {
		c.t.Fatal(err)
	}
	var all []string
	for _, raw := range page.Items {
		s := rowOf(c.t, raw)
		all = append(all, s.ID+" "+s.Outcome)
	}
	live, _ := c.store.Pods(c.t.Context())
	for _, p := range live {
		all = append(all, "live "+p.UID)
	}
	return strings.Join(all, ", ")
}

func (c *cluster) settle() {
	c.t.Helper()
	if err := settle(c.t.Context(), c.store, time.Now(), func(Pod) bool { return false }, c.book.tell); err != nil {
		c.t.Fatal(err)
	}
}

// What a pod may show, one state after the other, and the rows that come of it.
func TestStopsBecomeRows(t *testing.T) {
	restart := fmt.Sprintf("a/%d", noon.Add(-time.Minute).UnixMilli())
	for _, row := range []struct {
		name   string
		states []*corev1.Pod // the last is that of the deletion
		stays  bool          // it is not deleted
		want   string
	}{
		{"a stop", []*corev1.Pod{running("a"), running("a", deleting), running("a", deleting, ends(said("clean", 5)))}, false, "a clean"},
		{"the verdict is seen before the deletion", []*corev1.Pod{running("a", deleting, ends(said("deadline", 28)))}, true, "a deadline"},
		{"killed without a word", []*corev1.Pod{running("a"), running("a", deleting, ends(""))}, false, "a unknown"},
		{"deleted by force", []*corev1.Pod{running("a")}, false, "a unknown"},
		{"garbage", []*corev1.Pod{running("a", deleting, ends("Error: no such flag"))}, false, "a unknown"},
		{"lives", []*corev1.Pod{running("a")}, true, "live a"},
		{"a container was restarted, the agent lived on and died at the stop", []*corev1.Pod{running("a"), running("a", deleting, ends(said("container_restart", -60)))}, false, "a unknown, " + restart + " container_restart"},
		{"the stop looked like a restart", []*corev1.Pod{running("a"), running("a", deleting, ends(said("container_restart", 3)))}, false, "a container_restart"},
		{"the agent was restarted", []*corev1.Pod{running("a"), running("a", restarted(said("container_restart", -60)))}, true, restart + " container_restart, live a"},
		{"restarted, then stopped", []*corev1.Pod{running("a", restarted(said("clean", -60))), running("a", restarted(said("clean", -60)), deleting, ends(said("clean", 4)))}, false, "a clean, " + restart + " clean"},
		{"restarted, then gone", []*corev1.Pod{running("a", restarted(said("clean", -60)), deleting)}, false, "a unknown, " + restart + " clean"},
		{"a Job's pod", []*corev1.Pod{running("a"), running("a", ends(said("clean", 5))), running("a", ends(said("clean", 5)), phase(corev1.PodSucceeded))}, true, "a clean"},
		{"a Job's pod without a word", []*corev1.Pod{running("a"), running("a", ends(""), phase(corev1.PodFailed))}, true, "a unknown"},
		{"not scheduled", []*corev1.Pod{running("a", phase(corev1.PodPending), func(p *corev1.Pod) { p.Spec.NodeName, p.Status.ContainerStatuses = "", nil })}, false, ""},
		{"no image", []*corev1.Pod{running("a", phase(corev1.PodPending), func(p *corev1.Pod) {
			p.Status.ContainerStatuses[0].State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{}}
		})}, false, ""},
		{"ran, then waits", []*corev1.Pod{running("a"), running("a", phase(corev1.PodPending), func(p *corev1.Pod) {
			p.Status.ContainerStatuses[0].State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{}}
		})}, false, "a unknown"},
		{"no agent", []*corev1.Pod{running("a", func(p *corev1.Pod) { p.Spec.Containers = p.Spec.Containers[:1] })}, false, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, unseen := range []int{0, len(row.states) - 1} { // the watch began late
				c := watching(t, open(t, "memory", bounded))
				var last *corev1.Pod
				for i, p := range row.states {
					if i < unseen && row.name != "ran, then waits" {
						continue
					}
					p = stripped(p)
					if last == nil {
						c.at.OnAdd(p, true)
					} else {
						c.at.OnUpdate(last, p)
					}
					c.at.OnUpdate(p, p) // resync
					last = p
				}
				if !row.stays {
					c.at.OnDelete(last)
				}
				c.settle()
				if got := c.rows(); got != row.want {
					t.Errorf("from state %d on: %q, want %q", unseen, got, row.want)
				}
				if stops := strings.Count(row.want, "a "); len(c.told) > stops+1 {
					t.Errorf("%d were told of %d", len(c.told), stops)
				}
			}
		})
	}
}

// A watch that expired shows a pod's end late and without its last state, or another pod of the same name.
func TestMissedStates(t *testing.T) {
	c := watching(t, open(t, "memory", bounded))
	a, b := stripped(running("a")), stripped(running("b"))
	b.Name = a.Name
	c.at.OnAdd(a, true)
	c.at.OnUpdate(a, b)
	never := stripped(running("c", phase(corev1.PodPending), func(p *corev1.Pod) { p.Status.ContainerStatuses = nil }))
	c.at.OnAdd(never, false)
	c.at.OnDelete(cache.DeletedFinalStateUnknown{Key: "shop/web-c", Obj: never}) // it may have run since
	c.settle()
	if got := c.rows(); !strings.Contains(got, "a unknown") || !strings.Contains(got, "c unknown") || !strings.HasSuffix(got, "live b") {
		t.Errorf("%s", got)
	}
}

// A pod may be deleted again with less patience: its stop began when it was deleted first.
func TestDeletedTwice(t *testing.T) {
	c := watching(t, open(t, "memory", bounded))
	again := func(p *corev1.Pod) {
		p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &metav1.Time{Time: noon.Add(10 * time.Second)}, new(int64(0))
	}
	first, last := stripped(running("a", deleting)), stripped(running("a", again, ends(said("container_restart", 3))))
	c.at.OnAdd(first, false)
	c.at.OnUpdate(first, last)
	c.at.OnDelete(last)
	if got := c.rows(); got != "a container_restart" {
		t.Errorf("%s", got)
	}
}

// A Job's pod that left no verdict may stay for longer than its row: neither its deletion nor the next process makes another one.
func TestPodsThatOutliveTheirRow(t *testing.T) {
	ended := stripped(running("a", ends(""), phase(corev1.PodFailed)))
	ended.Status.ContainerStatuses[0].State.Terminated.FinishedAt = metav1.Time{Time: noon}
	said := stripped(running("b", ends(said("clean", 0)), phase(corev1.PodSucceeded)))
	c := watching(t, open(t, "memory", bounded))
	all := func(initial bool) {
		c.at.OnAdd(ended, initial)
		c.at.OnAdd(said, initial)
		c.at.OnUpdate(ended, ended)
		c.settle()
	}
	all(false)
	if got := c.rows(); got != "b clean, a unknown" && got != "a unknown, b clean" {
		t.Fatalf("%s", got)
	}
	later := noon.Add(bounded.Age + time.Hour)
	if err := c.store.Prune(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	c.at.OnUpdate(ended, ended)
	c.settle()
	c.at.OnDelete(ended)
	c.settle()
	if got := c.rows(); got != "" {
		t.Errorf("the same process: %s", got)
	}
	c = watching(t, open(t, "memory", bounded))
	c.book.now = func() time.Time { return later }
	all(true)
	if got := c.rows(); got != "" || len(c.told) > 0 {
		t.Errorf("again: %s, %d told", got, len(c.told))
	}
}

// A replica that lists pods late takes one for gone that the other has just seen; before it becomes unknown it has heard of it too.
func TestListedLate(t *testing.T) {
	c := watching(t, open(t, "memory", bounded))
	c.at.OnAdd(stripped(running("a")), false)
	if err := c.book.compare(t.Context(), func(Pod) bool { return false }); err != nil {
		t.Fatal(err)
	}
	if got := c.rows(); got != "" {
		t.Errorf("before: %s", got)
	}
	if err := settle(t.Context(), c.store, time.Now(), func(Pod) bool { return true }, c.book.tell); err != nil {
		t.Fatal(err)
	}
	if got := c.rows(); got != "live a" {
		t.Errorf("after: %s", got)
	}
}

// While the store refuses, nothing is dropped: all that was seen meanwhile is written when it is back.
func TestStoreIsAway(t *testing.T) {
	real := open(t, "memory", bounded)
	synctest.Test(t, func(t *testing.T) {
		store := &refusing{Store: real}
		c := watching(t, store)
		c.at.OnAdd(stripped(running("a")), true)
		store.until = time.Now().Add(time.Hour)
		c.at.OnDelete(stripped(running("a", deleting, ends(said("clean", 5))))) // comes back after an hour of the bubble's time
		if got := c.rows(); got != "a clean" || time.Now().Before(store.until) {
			t.Errorf("%s", got)
		}
		ctx, stop := context.WithCancel(t.Context())
		store.until = time.Now().Add(time.Hour)
		go stop()
		if err := c.book.deleted(ctx, stripped(running("b")), true); !errors.Is(err, context.Canceled) {
			t.Errorf("told to end: %v", err)
		}
	})
}

type refusing struct {
	Store
	until time.Time
}

func (r *refusing) Add(ctx context.Context, s *Stop) (bool, error) {
	if time.Now().Before(r.until) {
		return false, errors.New("no room")
	}
	return r.Store.Add(context.WithoutCancel(ctx), s)
}

func (r *refusing) Gone(ctx context.Context, p Pod, why string, at time.Time) error {
	if time.Now().Before(r.until) {
		return errors.New("no room")
	}
	return r.Store.Gone(context.WithoutCancel(ctx), p, why, at)
}
