package verify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Cluster is an API server.
type Cluster struct {
	client.WithWatch
	http *http.Client
	host string
}

// Connect prepares the clients; nothing is asked yet.
func Connect(config *rest.Config) (*Cluster, error) {
	config = rest.CopyConfig(config)
	config.WarningHandler = rest.NoWarnings{}
	caller, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	c, err := client.NewWithWatch(config, client.Options{HTTPClient: caller, Scheme: scheme.Scheme, Mapper: mapper()})
	if err != nil {
		return nil, err
	}
	return &Cluster{WithWatch: c, http: caller, host: strings.TrimSuffix(config.Host, "/")}, nil
}

// mapper knows the few kinds that are asked for: discovery would cost calls, and rights.
func mapper() meta.RESTMapper {
	m := meta.NewDefaultRESTMapper(nil)
	for _, name := range []string{"Pod", "Event", "Service"} {
		m.Add(corev1.SchemeGroupVersion.WithKind(name), meta.RESTScopeNamespace)
	}
	m.Add(corev1.SchemeGroupVersion.WithKind("Namespace"), meta.RESTScopeRoot)
	m.Add(authorizationv1.SchemeGroupVersion.WithKind("SelfSubjectAccessReview"), meta.RESTScopeRoot)
	for name, k := range kinds() {
		m.Add(k.WithKind(name), meta.RESTScopeNamespace)
	}
	for _, gvk := range append(besides(), schema.GroupVersionKind{Group: "discovery.k8s.io", Version: "v1", Kind: "EndpointSlice"}) {
		m.Add(gvk, meta.RESTScopeNamespace)
	}
	return m
}

// besides are the kinds beside a workload that decide how its pods stop.
func besides() []schema.GroupVersionKind {
	return []schema.GroupVersionKind{
		{Version: "v1", Kind: "Service"},
		{Group: "policy", Version: "v1", Kind: "PodDisruptionBudget"},
		{Group: "autoscaling", Version: "v2", Kind: "HorizontalPodAutoscaler"},
	}
}

// right is one permission.
type right struct {
	verbs, group, resource string // verbs as fields
}

func rights(t Target, readOnly bool) []right {
	k := kinds()[t.Kind]
	of := []right{{"get patch", k.Group, k.resource}, {"list watch", "", "pods"}, {"list watch", "discovery.k8s.io", "endpointslices"}}
	if readOnly {
		of = []right{{"get", k.Group, k.resource}, {"list", "", "pods"}}
	}
	return append(of, right{"list", "", "events"}, right{"list", "", "services"}, right{"list", "policy", "poddisruptionbudgets"}, right{"list", "autoscaling", "horizontalpodautoscalers"})
}

// permitted asks for every permission before anything is done, and names all that are missing.
func (c *Cluster) permitted(ctx context.Context, t Target, readOnly bool) error {
	var missing []error
	for _, r := range rights(t, readOnly) {
		for verb := range strings.FieldsSeq(r.verbs) {
			allowed, err := c.may(ctx, t.Namespace, verb, r)
			if err != nil {
				return fmt.Errorf("ask what this user may do: %w", err)
			}
			if !allowed {
				missing = append(missing, fmt.Errorf("this user may not %s %s in namespace %s", verb, schema.GroupResource{Group: r.group, Resource: r.resource}, t.Namespace))
			}
		}
	}
	if len(missing) > 0 {
		missing = append(missing, errors.New("nothing was changed; the role that verify needs stands in docs/how-to/verify-a-rollout.md, Kubernetes' own role edit has it too"))
	}
	return errors.Join(missing...)
}

func (c *Cluster) may(ctx context.Context, namespace, verb string, r right) (bool, error) {
	resource, sub, _ := strings.Cut(r.resource, "/")
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
		Namespace: namespace, Verb: verb, Group: r.group, Resource: resource, Subresource: sub,
	}}}
	err := c.Create(ctx, review)
	return review.Status.Allowed, err
}

// errNotThere is part of the error about a workload that does not exist.
var errNotThere = errors.New("not found")

// workload reads the target.
func (c *Cluster) workload(ctx context.Context, t Target) (*workload, error) {
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(kinds()[t.Kind].WithKind(t.Kind))
	err := c.Get(ctx, client.ObjectKey{Namespace: t.Namespace, Name: t.Name}, o)
	switch {
	case meta.IsNoMatchError(err) || apierrors.IsNotFound(err) && t.Kind == "Rollout":
		return nil, fmt.Errorf("%s is not in namespace %s, or the cluster has no Argo Rollouts (argoproj.io/v1alpha1): %w", t, t.Namespace, errNotThere)
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("%s is not in namespace %s: say which with -n: %w", t, t.Namespace, errNotThere)
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", t, err)
	}
	if ref, found, _ := unstructured.NestedMap(o.Object, "spec", "workloadRef"); found {
		return nil, fmt.Errorf("%s takes its pods from %v %v (workloadRef), which verify does not follow: put the template into the Rollout", t, ref["kind"], ref["name"])
	}
	return decode(t, o)
}

// pods lists the workload's own pods.
func (c *Cluster) pods(ctx context.Context, w *workload) ([]corev1.Pod, error) {
	selector, err := metav1.LabelSelectorAsSelector(w.Spec.Selector)
	if err != nil {
		return nil, fmt.Errorf("%s: spec.selector: %w", w.target, err)
	}
	var list corev1.PodList
	if err := c.List(ctx, &list, client.InNamespace(w.Namespace), client.MatchingLabelsSelector{Selector: selector}); err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	var own []corev1.Pod
	for _, pod := range list.Items {
		if w.owns(&pod) {
			own = append(own, pod)
		}
	}
	return own, nil
}

// beside lists what concerns the workload's pods, as it was applied.
func (c *Cluster) beside(ctx context.Context, w *workload) (all []*unstructured.Unstructured, err error) {
	for _, gvk := range besides() {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(gvk.GroupVersion().WithKind(gvk.Kind + "List"))
		if err := c.List(ctx, list, client.InNamespace(w.Namespace)); err != nil {
			return nil, fmt.Errorf("list %ss: %w", gvk.Kind, err)
		}
		for i := range list.Items {
			if o := &list.Items[i]; concerns(o, w) {
				o.SetGroupVersionKind(gvk)
				all = append(all, o)
			}
		}
	}
	return all, nil
}

func concerns(o *unstructured.Unstructured, w *workload) bool {
	switch o.GetKind() {
	case "Service":
		pairs, _, err := unstructured.NestedStringMap(o.Object, "spec", "selector")
		return err == nil && len(pairs) > 0 && labels.SelectorFromSet(pairs).Matches(labels.Set(w.Spec.Template.Labels))
	case "PodDisruptionBudget":
		var s struct {
			Spec struct {
				Selector *metav1.LabelSelector `json:"selector"`
			} `json:"spec"`
		}
		if runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &s) != nil {
			return false
		}
		selector, err := metav1.LabelSelectorAsSelector(s.Spec.Selector)
		return err == nil && selector.Matches(labels.Set(w.Spec.Template.Labels))
	}
	ref, _, _ := unstructured.NestedStringMap(o.Object, "spec", "scaleTargetRef") // none: it concerns nobody
	return ref["kind"] == w.target.Kind && ref["name"] == w.Name
}

// events lists those about these objects, by UID and how often they came.
func (c *Cluster) events(ctx context.Context, namespace string) ([]corev1.Event, error) {
	var list corev1.EventList
	if err := c.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("list events: %w", err)
	}
	return list.Items, nil
}
