//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// A watcher keeps every state of the pods of a namespace, with the time it was seen.
type watcher struct {
	mu     sync.Mutex
	states map[string][]podState // by pod name
}

type podState struct {
	seen    time.Time
	deleted bool // the object is gone; pod is its last state
	pod     corev1.Pod
}

// watch begins before it returns, and ends with the test.
func watch(t *testing.T, ns string) *watcher {
	t.Helper()
	w := &watcher{states: map[string][]podState{}}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := kubectlCommand(ctx, "-n", ns, "get", "pods", "--watch", "--output-watch-events", "-o", "json")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		events := json.NewDecoder(out)
		for {
			var event struct {
				Type   string
				Object corev1.Pod
			}
			if events.Decode(&event) != nil {
				return
			}
			w.add(podState{time.Now(), event.Type == "DELETED", event.Object})
		}
	})
	t.Cleanup(func() {
		stop()
		reading.Wait()
		_ = cmd.Wait()
	})
	return w
}

func (w *watcher) add(s podState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.states[s.pod.Name] = append(w.states[s.pod.Name], s)
}

// of returns the states of one pod so far, oldest first.
func (w *watcher) of(name string) []podState {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.states[name])
}

// names lists the pods that were ever seen.
func (w *watcher) names() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.states))
}

// stopped lists the pods that are gone.
func (w *watcher) stopped() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var names []string
	for name, states := range w.states {
		if states[len(states)-1].deleted {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// took is the time from the first sight of a pod's deletion to its end.
func (w *watcher) took(name string) time.Duration {
	states, began := w.of(name), w.deleted(name)
	if began.IsZero() {
		return 0
	}
	return states[len(states)-1].seen.Sub(began)
}

// deleted is when a pod was first seen to be on its way out.
func (w *watcher) deleted(name string) time.Time {
	states := w.of(name)
	first := slices.IndexFunc(states, func(s podState) bool { return s.pod.DeletionTimestamp != nil })
	if first < 0 {
		return time.Time{}
	}
	return states[first].seen
}

// gone waits for the end of a pod and returns its last state.
func (w *watcher) gone(t *testing.T, name string, within time.Duration) corev1.Pod {
	t.Helper()
	eventually(t, within, "pod "+name+" is gone", func() bool { return slices.Contains(w.stopped(), name) })
	states := w.of(name)
	return states[len(states)-1].pod
}

// status finds a container's status, of whichever kind.
func status(pod corev1.Pod, container string) corev1.ContainerStatus {
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if s.Name == container {
			return s
		}
	}
	return corev1.ContainerStatus{}
}
