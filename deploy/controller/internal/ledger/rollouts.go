package ledger

import (
	"context"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// rollouts says on the workload what a rollout came to, once it is over: no pod of the old revision is left, one of another is there,
// and nothing has stopped for a while. What was scaled to nothing, or deleted, is no rollout; nor is the end of a Job.
type rollouts struct {
	store  Store
	teller *teller
	quiet  time.Duration             // after the last stop
	told   map[revisionKey]time.Time // the last stop of the last Event
}

// mostRollouts bounds how many are looked at together.
const mostRollouts = 1000

type (
	workloadKey struct{ namespace, kind, name string }
	revisionKey struct {
		workloadKey
		revision string // of the pods' template
	}
)

func keyOf(p *Pod) workloadKey { return workloadKey{p.Namespace, p.Workload.Kind, p.Workload.Name} }

// life is a workload with a living pod, and when the first of these was made, where that is known.
type life struct {
	Workload
	first time.Time
}

// tell looks for those that are over by now. The API server keeps an Event for an hour, so that two replicas, or one that was started
// again, make one of it.
func (r *rollouts) tell(ctx context.Context, now time.Time) error {
	page, err := r.store.Rollouts(ctx, Query{Since: now.Add(-eventLife * 5 / 6), Until: now, Limit: mostRollouts})
	if err != nil || len(page.Items) == 0 {
		return err
	}
	left, living, err := r.pods(ctx, now)
	if err != nil {
		return err
	}
	for i := range page.Items {
		o := &page.Items[i]
		key := revisionKey{workloadKey{o.Namespace, o.Workload.Kind, o.Workload.Name}, o.Revision}
		by, there := living[key.workloadKey]
		if o.Revision == "" || left[key] || !there || o.Last.After(now.Add(-r.quiet)) || o.Workload.Kind == "Job" || o.Workload.Kind == "CronJob" || !o.Last.After(r.told[key]) {
			continue
		}
		if err := r.sum(ctx, by, o, r.told[key]); err != nil {
			return err
		}
		r.told[key] = o.Last.Time
	}
	for key, at := range r.told {
		if now.Sub(at) > eventLife {
			delete(r.told, key)
		}
	}
	return nil
}

// sum makes the Event of what stopped since the last one, and since the pods that took over were made: what the revision's pods came to
// before is no part of this rollout. Where the new ones come after the old ones have gone, these went within a grace period before.
func (r *rollouts) sum(ctx context.Context, by life, o *Rollout, told time.Time) error {
	q := Query{Namespace: o.Namespace, Kind: o.Workload.Kind, Workload: o.Workload.Name, Revision: o.Revision, Since: by.first, Limit: 1}
	if !told.IsZero() && !told.Before(q.Since) {
		q.Since = told.Add(time.Millisecond)
	}
	all, err := r.store.Rollouts(ctx, q)
	if err != nil {
		return err
	}
	if len(all.Items) > 0 { // else the pods that are there took over from yet others
		o = &all.Items[0]
	}
	q.Outcomes = outcomes()
	known, err := r.store.Rollouts(ctx, q)
	if err != nil {
		return err
	}
	last := o.Last
	if len(known.Items) > 0 { // when an unknown one ended replicas with stores of their own do not agree
		last = known.Items[0].Last
	}
	r.teller.say(ctx, rolloutEvent(rolloutName(by.UID, o, last), by.Workload, o))
	return nil
}

// pods are the revisions of which some pod has no row yet, and the workloads that have a living pod.
func (r *rollouts) pods(ctx context.Context, now time.Time) (left map[revisionKey]bool, living map[workloadKey]life, err error) {
	left, living = map[revisionKey]bool{}, map[workloadKey]life{}
	live, err := r.store.Pods(ctx)
	if err != nil {
		return nil, nil, err
	}
	for i := range live {
		p := &live[i]
		left[revisionKey{keyOf(p), p.Revision}] = true
		one := life{p.Workload, living[keyOf(p)].first}
		if at := p.tookOver(); !at.IsZero() && (one.first.IsZero() || at.Before(one.first)) {
			one.first = at
		}
		living[keyOf(p)] = one
	}
	gone, err := r.store.Lost(ctx, now)
	for _, s := range gone {
		left[revisionKey{keyOf(&s.Pod), s.Revision}] = true
	}
	return left, living, err
}

// tookOver is when the pod that this one replaces had not ended yet: a grace period and what kubelet takes to say so before it was made.
func (p *Pod) tookOver() time.Time {
	if p.Created.IsZero() || p.GraceS == nil {
		return time.Time{}
	}
	return p.Created.Add(-time.Duration(min(*p.GraceS, 1<<31))*time.Second - 10*time.Second)
}

// rolloutName is the same whoever makes the Event.
func rolloutName(uid string, o *Rollout, last Moment) string {
	sum := fnv.New64a()
	fmt.Fprintf(sum, "%s/%s/%s/%s/%s", o.Namespace, o.Workload.Kind, o.Workload.Name, uid, o.Revision)
	return fmt.Sprintf("drain-rollout-%x-%x", sum.Sum64(), last.UnixMilli())
}

func rolloutEvent(name string, by Workload, o *Rollout) *corev1.Event {
	kind, reason := corev1.EventTypeNormal, "RolloutClean"
	if int64(o.Outcomes["clean"]) != o.Stops || o.Cut != nil && *o.Cut > 0 {
		kind, reason = corev1.EventTypeWarning, "RolloutNotClean"
	}
	e := eventOn(by, o.Namespace, name, kind, reason, rolloutText(o), o.Last.Time)
	e.FirstTimestamp = metav1.NewTime(o.First.Time)
	return e
}

// rolloutText is the sum; what not every stop says is followed by how many do.
func rolloutText(o *Rollout) string {
	var each []string
	for _, outcome := range append(outcomes(), unknown, others) {
		if n := o.Outcomes[outcome]; n > 0 {
			each = append(each, fmt.Sprintf("%d %s", n, outcome))
		}
	}
	text := fmt.Sprintf("%d pods of revision %s have stopped: %s", o.Stops, o.Revision, strings.Join(each, ", "))
	if o.P50 != nil && o.P95 != nil && o.Max != nil {
		text += fmt.Sprintf("; seconds per stop p50 %.1f, p95 %.1f, longest %.1f", float64(*o.P50)/1000, float64(*o.P95)/1000, float64(*o.Max)/1000)
	}
	count := func(what string, n *int64, of int64) {
		switch {
		case n == nil:
			text += "; nobody knows how many " + what
		case of < o.Stops:
			text += fmt.Sprintf("; %d %s in the %d stops that say it", *n, what, of)
		default:
			text += fmt.Sprintf("; %d %s", *n, what)
		}
	}
	count("requests were cut off", o.Cut, o.CutOf)
	count("came after the first container was let go", o.Late, o.LateOf)
	return text
}
