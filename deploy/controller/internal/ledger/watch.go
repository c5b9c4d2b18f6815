package ledger

import (
	"context"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// book writes down what the watch of pods shows. Its methods are called one after the other. While the store refuses they wait: the
// informer keeps what comes meanwhile, and nothing is left out.
type book struct {
	store Store
	owner func(context.Context, *corev1.Pod) (w Workload, final bool)
	tell  func(context.Context, *Stop) // of a row that is new
	now   func() time.Time
	retry func(ctx context.Context, what string, do func() error) error // until it succeeds or ctx ends
	age   time.Duration
	count func(int) // of the pods with an agent that are there
	pods  map[types.UID]*entry
}

// entry is what is known of a pod that the watch shows.
type entry struct {
	known   Pod
	final   bool            // its workload was looked up
	settled bool            // its verdict is written down, or it never ran
	gone    bool            // it ended without a verdict, and that is written down
	drains  map[string]bool // rows of drains that the pod outlived
}

// seen is called for each pod that is there, and for each change. old: it was there when the watch began.
func (b *book) seen(ctx context.Context, pod *corev1.Pod, old bool) error {
	if !hasAgent(pod) {
		return nil
	}
	e := b.entry(pod.UID)
	if e.settled {
		return nil
	}
	before := e.known
	if err := b.learn(ctx, e, pod); err != nil {
		return err
	}
	old = old && before.UID == ""
	stop, drains := judge(pod, e.known, false)
	if err := b.outlived(ctx, e, drains, old); err != nil {
		return err
	}
	switch {
	case stop != nil:
		stop.old, e.settled = old, true
		if old && stop.EndedAt.Before(b.now().Add(-b.age)) {
			return b.forget(ctx, e.known) // its row was removed long ago
		}
		return b.add(ctx, stop)
	case over(pod) && neverRan(pod, e.known):
		e.settled = true
		return b.forget(ctx, e.known)
	case over(pod):
		at := ended(pod, b.now())
		e.settled = old && at.Before(b.now().Add(-b.age)) // its row was removed long ago
		if e.settled || e.gone {
			return nil
		}
		e.gone = true
		return b.gone(ctx, e.known, whyLost(pod, e.known), at)
	case e.known.differs(before):
		return b.retry(ctx, "remember a pod", func() error { return b.store.Saw(ctx, e.known) })
	}
	return nil
}

// deleted is called when a pod is gone. exact: pod is its last state; else some changes were missed.
func (b *book) deleted(ctx context.Context, pod *corev1.Pod, exact bool) error {
	if !hasAgent(pod) {
		return nil
	}
	e := b.entry(pod.UID)
	defer func() {
		delete(b.pods, pod.UID)
		b.count(len(b.pods))
	}()
	if e.settled {
		return nil
	}
	if err := b.learn(ctx, e, pod); err != nil {
		return err
	}
	stop, drains := judge(pod, e.known, true)
	if err := b.outlived(ctx, e, drains, false); err != nil {
		return err
	}
	switch {
	case stop != nil:
		return b.add(ctx, stop)
	case exact && neverRan(pod, e.known):
		return b.forget(ctx, e.known)
	case e.gone:
		return nil
	}
	return b.gone(ctx, e.known, whyLost(pod, e.known), ended(pod, b.now()))
}

// outlived keeps the rows of drains, each once.
func (b *book) outlived(ctx context.Context, e *entry, drains []*Stop, old bool) error {
	for _, drain := range drains {
		if e.drains[drain.ID] {
			continue
		}
		drain.old = old
		if err := b.add(ctx, drain); err != nil {
			return err
		}
		if e.drains == nil {
			e.drains = map[string]bool{}
		}
		e.drains[drain.ID] = true
	}
	return nil
}

func (b *book) entry(uid types.UID) *entry {
	e := b.pods[uid]
	if e == nil {
		e = &entry{}
		b.pods[uid] = e
		b.count(len(b.pods))
	}
	return e
}

// learn takes over what a pod shows, and looks its workload up until somebody knows it.
func (b *book) learn(ctx context.Context, e *entry, pod *corev1.Pod) error {
	e.known = remembered(pod, e.known)
	if !e.final {
		e.known.Workload, e.final = b.owner(ctx, pod)
	}
	return ctx.Err()
}

func (p Pod) differs(from Pod) bool {
	return p.UID != from.UID || p.Node != from.Node || p.Phase != from.Phase || p.Ran != from.Ran || p.Workload != from.Workload ||
		(p.Deleted == nil) != (from.Deleted == nil) || (p.ExitCode == nil) != (from.ExitCode == nil)
}

func (b *book) add(ctx context.Context, s *Stop) error {
	var added bool
	err := b.retry(ctx, "keep a verdict", func() (err error) {
		added, err = b.store.Add(ctx, s)
		return err
	})
	if err == nil && added {
		b.tell(ctx, s)
	}
	return err
}

func (b *book) gone(ctx context.Context, p Pod, why string, at time.Time) error {
	return b.retry(ctx, "remember a pod that is gone", func() error { return b.store.Gone(ctx, p, why, at) })
}

func (b *book) forget(ctx context.Context, p Pod) error {
	return b.retry(ctx, "forget a pod that never ran", func() error { return b.store.Forget(ctx, p.UID) })
}

// compare notices pods that the store has as living and that are not there: they ended while nobody watched.
func (b *book) compare(ctx context.Context, there func(Pod) bool) error {
	var live []Pod
	err := b.retry(ctx, "read the remembered pods", func() (err error) {
		live, err = b.store.Pods(ctx)
		return err
	})
	for _, p := range live {
		if err == nil && !there(p) {
			err = b.gone(ctx, p, "the pod went while no controller watched", b.now())
		}
	}
	return err
}

// settle makes rows of pods that have been gone for a while, in which another replica's verdict may have come.
func settle(ctx context.Context, store Store, before time.Time, there func(Pod) bool, tell func(context.Context, *Stop)) error {
	all, err := store.Lost(ctx, before)
	if err != nil {
		return err
	}
	for _, s := range all {
		if there(s.Pod) { // this watch had not heard of it when it was compared
			if err := store.Saw(ctx, s.Pod); err != nil {
				return err
			}
			continue
		}
		added, err := store.Add(ctx, s)
		if err != nil {
			return err
		}
		if added {
			tell(ctx, s)
		}
	}
	return nil
}

// handler connects an informer with a book. Its calls come one after the other.
func handler(ctx context.Context, b *book, log *slog.Logger) cache.ResourceEventHandlerDetailedFuncs {
	done := func(err error) {
		if err != nil && ctx.Err() == nil {
			log.ErrorContext(ctx, "a pod was not written down", "error", err.Error()) // cannot happen: what fails is tried again
		}
	}
	return cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(object any, initial bool) {
			if pod, ok := object.(*corev1.Pod); ok {
				done(b.seen(ctx, pod, initial))
			}
		},
		UpdateFunc: func(before, object any) {
			pod, ok := object.(*corev1.Pod)
			if was, same := before.(*corev1.Pod); ok && same && was.UID != pod.UID { // one of the same name took its place unseen
				done(b.deleted(ctx, was, false))
			}
			if ok {
				done(b.seen(ctx, pod, false))
			}
		},
		DeleteFunc: func(object any) {
			last, unseen := object.(cache.DeletedFinalStateUnknown)
			if unseen {
				object = last.Obj
			}
			if pod, ok := object.(*corev1.Pod); ok {
				done(b.deleted(ctx, pod, !unseen))
			}
		},
	}
}
