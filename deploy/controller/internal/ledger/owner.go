package ledger

import (
	"context"
	"strings"
	"sync"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// owners looks up what made a pod: the Deployment behind its ReplicaSet, the CronJob behind its Job.
type owners struct {
	reader client.Reader
	mu     sync.Mutex
	known  map[types.UID]Workload
}

// mostOwners bounds what is remembered of them.
const mostOwners = 10_000

// of returns the workload; final: asking again tells nothing more. Until then it is the next best: the ReplicaSet, the Job, the pod.
func (o *owners) of(ctx context.Context, pod *corev1.Pod) (w Workload, final bool) {
	if len(pod.OwnerReferences) == 0 {
		return Workload{Kind: "Pod", Name: pod.Name, APIVersion: "v1", UID: string(pod.UID)}, true
	}
	owner := pod.OwnerReferences[0] // strip has left the one that controls it
	if owner.Kind != "ReplicaSet" && owner.Kind != "Job" {
		return workload(owner), true
	}
	o.mu.Lock()
	w, have := o.known[owner.UID]
	o.mu.Unlock()
	if have {
		return w, true
	}
	var between metav1.PartialObjectMetadata
	between.SetGroupVersionKind(metav1.SchemeGroupVersion.WithKind(owner.Kind))
	between.APIVersion = owner.APIVersion
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := o.reader.Get(ctx, client.ObjectKey{Namespace: pod.Namespace, Name: owner.Name}, &between)
	w = workload(owner)
	switch {
	case apierrors.IsNotFound(err), err == nil && between.UID != owner.UID, apierrors.IsForbidden(err):
		return w, true // it is gone with its name, or we may not ask
	case err != nil:
		return w, false
	}
	if above := metav1.GetControllerOf(&between); above != nil {
		w = workload(*above)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.known == nil || len(o.known) >= mostOwners {
		o.known = map[types.UID]Workload{}
	}
	o.known[owner.UID] = w
	return w, true
}

func workload(o metav1.OwnerReference) Workload {
	return Workload{Kind: printable(o.Kind), Name: printable(o.Name), APIVersion: printable(o.APIVersion), UID: printable(string(o.UID))}
}

// printable makes a text that Kubernetes does not look at one that every database takes, and no longer than names are.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || strings.ContainsRune(`<>&"\`, r) { // these grow in JSON
			return unicode.ReplacementChar
		}
		return r
	}, clip(text))
}
