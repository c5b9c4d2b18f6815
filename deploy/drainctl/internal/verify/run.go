package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Options are what a run is told.
type Options struct {
	Target
	ReadOnly bool
	Anyway   bool // roll also where clients or a disruption budget will feel it
	Timeout  time.Duration
	Request  Request // no URL: no load
	Say      func(format string, args ...any)
}

// lateEndpoints is how long an EndpointSlice may keep a pod that is gone, before it is said to keep it for good.
const lateEndpoints = 30 * time.Second

// Run verifies a workload. Its error says why nothing could be verified; what is wrong with the workload stands in the report. When
// ctx ends after pods began to go, the report says what is still on its way.
func (c *Cluster) Run(ctx context.Context, o Options) (*Report, error) {
	r := &Report{Workload: o.String(), Namespace: o.Namespace, Stops: []Stop{}, Agents: []Agent{}, Findings: []Finding{}, Rolling: []string{}}
	if o.Request.URL != "" {
		if err := o.Request.validate(); err != nil {
			return nil, err
		}
	}
	if err := c.permitted(ctx, o.Target, o.ReadOnly); err != nil {
		return nil, err
	}
	w, err := c.workload(ctx, o.Target)
	if err != nil {
		return nil, err
	}
	pods, err := c.pods(ctx, w)
	if err != nil {
		return nil, err
	}
	beside, err := c.beside(ctx, w)
	if err != nil {
		return nil, err
	}
	events, err := c.events(ctx, w.Namespace)
	if err != nil {
		return nil, err
	}
	found := before(w, pods, beside)
	if o.Anyway || o.ReadOnly {
		found = accepted(found)
	}
	r.add(found...)
	if o.ReadOnly {
		lint, err := c.linted(ctx, w, pods, beside)
		if err != nil {
			return nil, err
		}
		r.add(lint...)
		if err := c.look(ctx, r, w, pods, events); err != nil {
			return nil, err
		}
		r.conclude(false)
		return r, nil
	}
	if r.conclude(false); r.Result == Fail {
		return r, nil
	}
	return r, c.roll(ctx, o, r, w, beside, events)
}

// accepted turns what --anyway lifts into warnings.
func accepted(found []Finding) []Finding {
	for i := range found {
		if f := &found[i]; f.Severity == Error && (f.Check == "no-surge" || f.Check == "budget-forbids") {
			f.Severity = Warning
		}
	}
	return found
}

// roll replaces the pods and judges each that goes.
func (c *Cluster) roll(ctx context.Context, o Options, r *Report, w *workload, beside []*unstructured.Unstructured, before []corev1.Event) error {
	watching, done := context.WithCancel(context.WithoutCancel(ctx))
	ready, cancel := context.WithTimeout(watching, 2*time.Minute)
	defer cancel()
	passed := map[string]bool{}
	for _, one := range beside {
		if open, _, _ := unstructured.NestedBool(one.Object, "spec", "publishNotReadyAddresses"); open && one.GetKind() == "Service" {
			passed[one.GetName()] = true
			r.add(Finding{Note, "endpoints-open", "", "Service " + one.GetName() + " publishes pods that are not ready: its endpoints keep them until they are gone and are not judged", ""})
		}
	}
	seen, err := c.watched(watching, ready, w, passed, o.Say)
	defer seen.running.Wait()
	defer done()
	if err != nil {
		return err
	}
	seen.mark(w.goes)
	var load *loader
	if o.Request.URL != "" {
		if load, err = o.Request.send(ctx); err != nil {
			return err
		}
		defer load.end()
	}
	if ctx.Err() != nil {
		return errors.New("interrupted before anything was changed")
	}
	began := time.Now()
	if err := c.restart(ctx, w, began); err != nil {
		return err
	}
	r.Rolled = true
	o.Say("%s rolls", w.target)
	limit, stop := context.WithTimeout(ctx, o.Timeout)
	defer stop()
	unfinished := c.wait(limit, seen, w)
	last, finish := context.WithTimeout(watching, time.Minute)
	defer finish()
	if load != nil {
		r.Load = load.stop(seen.all)
		r.add(r.Load.findings()...)
	}
	after, err := c.events(last, w.Namespace)
	if err != nil {
		r.add(Finding{Error, "events-unknown", "", "the events could not be read at the end: " + err.Error(), "run verify again"})
	}
	if err := seen.lastError(); err != nil {
		r.add(Finding{Note, "watch-interrupted", "", "the watch was interrupted and taken up again: " + err.Error(), ""})
	}
	r.Seconds = time.Since(began).Seconds()
	r.sum(seen, newEvents(before, after))
	if unfinished != "" {
		interrupted := ctx.Err() != nil
		severity := Error
		if interrupted {
			severity = Warning
		}
		r.add(Finding{severity, "unfinished", "", unfinished + "; the rollout goes on by itself: " + w.target.kubectl("status"), "to go back: " + w.target.kubectl("undo")})
		if !interrupted {
			r.add(notReady(c.again(last, w), seen.all(), newEvents(before, after))...)
		}
	}
	r.conclude(unfinished != "")
	return nil
}

// sum judges every pod that went.
func (r *Report) sum(seen *watcher, events []corev1.Event) {
	for _, p := range seen.all() {
		switch {
		case !p.Gone.IsZero():
			r.Stops = append(r.Stops, stopOf(&p))
			r.add(judge(&p, events)...)
			if !p.Listed {
				r.add(Finding{Note, "no-endpoints", p.Last.Name, "it was in no EndpointSlice: when traffic was led away from it is not known", ""})
			}
		case p.Old:
			r.Rolling = append(r.Rolling, p.Last.Name)
		}
	}
}

// restart does what kubectl rollout restart does; Argo's own way is spec.restartAt.
func (c *Cluster) restart(ctx context.Context, w *workload, now time.Time) error {
	patch := fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":%q}}}}}`, now.Format(time.RFC3339))
	if w.target.Kind == "Rollout" {
		patch = fmt.Sprintf(`{"spec":{"restartAt":%q}}`, now.UTC().Format(time.RFC3339))
	}
	if err := c.Patch(ctx, w.object.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(patch)), client.FieldOwner("drainctl-verify")); err != nil {
		return fmt.Errorf("restart %s: %w", w.target, err)
	}
	return nil
}

// again is the workload as it is now, or as it was where it cannot be read.
func (c *Cluster) again(ctx context.Context, w *workload) *workload {
	if now, err := c.workload(ctx, w.target); err == nil {
		return now
	}
	return w
}

// wait returns when every old pod is gone and as many new ones as wanted are ready, or with a sentence about what it no longer
// waits for.
func (c *Cluster) wait(ctx context.Context, seen *watcher, w *workload) (unfinished string) {
	look := time.NewTicker(2 * time.Second)
	defer look.Stop()
	for {
		all := seen.all()
		old, ready := count(all)
		if old == 0 && ready >= w.want() && !slices.ContainsFunc(all, keptByEndpoints) {
			return ""
		}
		rest := fmt.Sprintf("%d old pods are still there, %d of %d new ones are ready", old, ready, w.want())
		select {
		case <-seen.changed:
			continue
		case <-look.C:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return "gave up waiting (--timeout): " + rest
			}
			return "interrupted: " + rest
		}
		now, err := c.workload(ctx, w.target)
		switch {
		case err == nil && now.stalled() != "" && w.stalled() == "":
			return "gave up waiting: " + rest
		case err == nil:
			w = now // else it is asked again with the next tick
		case errors.Is(err, errNotThere):
			return "the workload was deleted meanwhile: " + rest
		}
	}
}

func count(all []seenPod) (old, ready int) {
	for _, p := range all {
		switch {
		case !p.Gone.IsZero():
		case p.Old:
			old++
		case p.Deleted.IsZero() && isReady(&p.Last):
			ready++
		}
	}
	return old, ready
}

// keptByEndpoints holds for a while after a pod is gone whose endpoint is not seen to be gone.
func keptByEndpoints(p seenPod) bool {
	return p.Listed && p.Left.IsZero() && !p.Gone.IsZero() && time.Since(p.Gone) < lateEndpoints
}
