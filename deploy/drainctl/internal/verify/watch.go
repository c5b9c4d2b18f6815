package verify

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// seenPod is one pod as the watch showed it. Times are this machine's, at which a state was seen; zero: not seen.
type seenPod struct {
	Last    corev1.Pod // its last status
	Old     bool       // it was there before the rollout
	Deleted time.Time  // it was told to go
	Gone    time.Time
	Unseen  bool      // it vanished while the watch was interrupted
	Listed  bool      // it was ready in an EndpointSlice at some time
	Left    time.Time // the last EndpointSlice has it no longer as ready
}

// watcher keeps what the API server shows of a workload's pods.
type watcher struct {
	owns    func(*corev1.Pod) bool
	changed chan struct{} // has one value after a change
	say     func(format string, args ...any)
	running sync.WaitGroup

	mu      sync.Mutex
	pods    map[types.UID]*seenPod
	slices  map[string]map[types.UID]bool // the ready pods of each EndpointSlice
	passed  map[string]bool               // Services that publish pods that are not ready
	trouble error                         // the last error of a watch
}

// watched begins to watch before it returns, within ready, and goes on until ctx ends.
func (c *Cluster) watched(ctx, ready context.Context, w *workload, passed map[string]bool, say func(string, ...any)) (*watcher, error) {
	selector, err := metav1.LabelSelectorAsSelector(w.Spec.Selector)
	if err != nil {
		return &watcher{}, err
	}
	s := &watcher{owns: w.owns, changed: make(chan struct{}, 1), say: say, passed: passed, pods: map[types.UID]*seenPod{}, slices: map[string]map[types.UID]bool{}}
	return s, s.begin(ctx, ready, c, w, selector)
}

func (s *watcher) begin(ctx, ready context.Context, c *Cluster, w *workload, selector labels.Selector) error {
	for _, one := range []struct {
		what     string
		object   client.Object
		list     func() client.ObjectList
		selector labels.Selector
		handle   func(object any, gone, unseen bool)
	}{
		{"pods", &corev1.Pod{}, func() client.ObjectList { return &corev1.PodList{} }, selector, s.pod},
		{"endpointslices", &discoveryv1.EndpointSlice{}, func() client.ObjectList { return &discoveryv1.EndpointSliceList{} }, labels.Everything(), s.slice},
	} {
		options := func(o *metav1.ListOptions) *client.ListOptions {
			return &client.ListOptions{Namespace: w.Namespace, LabelSelector: one.selector, Raw: o}
		}
		informer := cache.NewSharedIndexInformer(&cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				list := one.list()
				return list, c.List(ctx, list, options(&o))
			},
			WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				return c.Watch(ctx, one.list(), options(&o))
			},
		}, one.object, 0, nil)
		if err := informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) { s.failed(one.what, err) }); err != nil {
			return err
		}
		handled, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { one.handle(o, false, false) },
			UpdateFunc: func(_, o any) { one.handle(o, false, false) },
			DeleteFunc: func(o any) {
				last, unseen := o.(cache.DeletedFinalStateUnknown)
				if unseen {
					o = last.Obj
				}
				one.handle(o, true, unseen)
			},
		})
		if err != nil {
			return err
		}
		s.running.Go(func() { informer.RunWithContext(ctx) })
		if !cache.WaitForCacheSync(ready.Done(), handled.HasSynced) {
			return fmt.Errorf("watch %s: %w (%v)", one.what, context.Cause(ready), s.lastError())
		}
	}
	return nil
}

func (s *watcher) failed(what string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble = fmt.Errorf("watch %s: %w", what, err)
}

func (s *watcher) lastError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trouble
}

// mark makes all pods of now the old ones.
func (s *watcher) mark(goes func(*corev1.Pod) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pods {
		p.Old = p.Gone.IsZero() && p.Deleted.IsZero() && goes(&p.Last)
	}
}

// all returns copies of what was seen so far, by name.
func (s *watcher) all() []seenPod {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []seenPod
	for _, p := range s.pods {
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b seenPod) int { return strings.Compare(a.Last.Name, b.Last.Name) })
	return out
}

func (s *watcher) pod(object any, gone, unseen bool) {
	pod, is := object.(*corev1.Pod)
	if !is || !s.owns(pod) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.wake()
	p := s.pods[pod.UID]
	if p == nil {
		p = &seenPod{Listed: s.listed(pod.UID)}
		s.pods[pod.UID] = p
	}
	p.Last = *pod
	if p.Deleted.IsZero() && (gone || pod.DeletionTimestamp != nil) {
		p.Deleted = time.Now()
		s.say("%s stops", pod.Name)
	}
	if gone {
		p.Gone, p.Unseen = time.Now(), unseen
		s.say("%s is gone: %s", pod.Name, ending(p))
	}
}

// ending is the outcome of a pod's drain in a word.
func ending(p *seenPod) string {
	if v := verdictOf(&p.Last); v != nil {
		return v.Outcome
	}
	return "no verdict"
}

func (s *watcher) slice(object any, gone, _ bool) {
	slice, is := object.(*discoveryv1.EndpointSlice)
	if !is || s.passed[slice.Labels[discoveryv1.LabelServiceName]] {
		return
	}
	ready := map[types.UID]bool{}
	for _, e := range slice.Endpoints {
		if !gone && e.TargetRef != nil && (e.Conditions.Ready == nil || *e.Conditions.Ready) {
			ready[e.TargetRef.UID] = true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.wake()
	was := s.slices[slice.Name]
	s.slices[slice.Name] = ready
	for uid := range ready {
		p := s.pods[uid]
		if p != nil {
			p.Listed, p.Left = true, time.Time{}
		}
	}
	for uid := range was {
		if p := s.pods[uid]; p != nil && !s.listed(uid) {
			p.Left = time.Now()
		}
	}
}

func (s *watcher) listed(uid types.UID) bool {
	for _, ready := range s.slices {
		if ready[uid] {
			return true
		}
	}
	return false
}

func (s *watcher) wake() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}
