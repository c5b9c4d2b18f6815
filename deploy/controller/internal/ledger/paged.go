package ledger

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
)

// page is how many pods are in memory as a whole while all are listed.
const page = 200

// paged lists pods in pages and strips each at once: from the API server's cache they would all come in one answer, which takes some ten
// times what is kept of it.
type paged struct{ toolscache.ListerWatcher }

// List is called at the start, and whenever a watch has missed something.
func (p paged) List(options metav1.ListOptions) (runtime.Object, error) {
	return p.ListWithContext(context.Background(), options)
}

// ListWithContext is what a reflector calls.
func (p paged) ListWithContext(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	lists := toolscache.ToListerWatcherWithContext(p.ListerWatcher)
	options.ResourceVersion, options.ResourceVersionMatch, options.Limit = "", "", page // what a cache answers has no pages
	all := &corev1.PodList{}
	for {
		answer, err := lists.ListWithContext(ctx, options)
		if err != nil {
			return nil, err
		}
		pods, ok := answer.(*corev1.PodList)
		if !ok {
			return nil, fmt.Errorf("list pods: %T came", answer)
		}
		for i := range pods.Items {
			stripped, err := strip(&pods.Items[i])
			if err != nil {
				return nil, err
			}
			all.Items = append(all.Items, *stripped.(*corev1.Pod))
		}
		all.ResourceVersion = pods.ResourceVersion
		if options.Continue = pods.Continue; options.Continue == "" {
			return all, nil
		}
	}
}

// WatchWithContext is what a reflector calls.
func (p paged) WatchWithContext(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	return toolscache.ToListerWatcherWithContext(p.ListerWatcher).WatchWithContext(ctx, options)
}
