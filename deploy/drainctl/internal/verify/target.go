package verify

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Target names a workload.
type Target struct {
	Kind, Namespace, Name string
}

// kind is what can be verified.
type kind struct {
	schema.GroupVersion
	resource, names string // names are what people write, as fields
}

func kinds() map[string]kind {
	apps := schema.GroupVersion{Group: "apps", Version: "v1"}
	return map[string]kind{
		"Deployment":  {apps, "deployments", "deploy deployment deployments deployments.apps deployment.apps"},
		"StatefulSet": {apps, "statefulsets", "sts statefulset statefulsets statefulsets.apps statefulset.apps"},
		"DaemonSet":   {apps, "daemonsets", "ds daemonset daemonsets daemonsets.apps daemonset.apps"},
		"Rollout":     {schema.GroupVersion{Group: "argoproj.io", Version: "v1alpha1"}, "rollouts", "ro rollout rollouts rollouts.argoproj.io"},
	}
}

// ParseTarget reads KIND/NAME.
func ParseTarget(text, namespace string) (Target, error) {
	written, name, ok := strings.Cut(text, "/")
	if ok && name != "" && !strings.Contains(name, "/") {
		for called, k := range kinds() {
			if slices.Contains(strings.Fields(k.names), strings.ToLower(written)) {
				return Target{called, namespace, name}, nil
			}
		}
	}
	return Target{}, fmt.Errorf("%q is no workload: write deploy/NAME, statefulset/NAME, daemonset/NAME or rollout/NAME (Argo Rollouts)", text)
}

func (t Target) String() string { return strings.ToLower(t.Kind) + "/" + t.Name }

// kubectl is a command about the target for people to type.
func (t Target) kubectl(verb string) string {
	if t.Kind == "Rollout" {
		return fmt.Sprintf("kubectl argo rollouts -n %s %s %s", t.Namespace, verb, t.Name)
	}
	return fmt.Sprintf("kubectl -n %s rollout %s %s", t.Namespace, verb, t)
}

// steps are the numbers of an update's strategy. All kinds have the same names for them.
type steps struct {
	MaxSurge       *intstr.IntOrString `json:"maxSurge"`
	MaxUnavailable *intstr.IntOrString `json:"maxUnavailable"`
	Partition      *int32              `json:"partition"`
}

type strategy struct {
	Type          string `json:"type"`
	RollingUpdate *steps `json:"rollingUpdate"`
}

// workload is one with what was read of it.
type workload struct {
	shape
	target Target
	object *unstructured.Unstructured
}

// shape is what all four kinds have in common.
type shape struct {
	metav1.ObjectMeta `json:"metadata"`

	Spec struct {
		Replicas       *int32                 `json:"replicas"`
		Selector       *metav1.LabelSelector  `json:"selector"`
		Template       corev1.PodTemplateSpec `json:"template"`
		Paused         bool                   `json:"paused"`
		Strategy       strategy               `json:"strategy"`       // Deployment
		UpdateStrategy strategy               `json:"updateStrategy"` // StatefulSet, DaemonSet
	} `json:"spec"`
	Status struct {
		Desired    int32              `json:"desiredNumberScheduled"` // DaemonSet
		Conditions []metav1.Condition `json:"conditions"`
	} `json:"status"`
}

func decode(t Target, o *unstructured.Unstructured) (*workload, error) {
	w := &workload{target: t, object: o}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &w.shape); err != nil {
		return nil, fmt.Errorf("read %s: %w", t, err)
	}
	if w.Spec.Selector == nil {
		return nil, fmt.Errorf("%s has no spec.selector: nobody can tell which pods are its own", t)
	}
	return w, nil
}

// want is how many pods the workload should have.
func (w *workload) want() int {
	if w.target.Kind == "DaemonSet" {
		return int(w.Status.Desired)
	}
	if w.Spec.Replicas == nil {
		return 1
	}
	return int(*w.Spec.Replicas)
}

// strategy is how the workload replaces its pods.
func (w *workload) strategy() strategy {
	s := w.Spec.Strategy
	if w.target.Kind == "StatefulSet" || w.target.Kind == "DaemonSet" {
		s = w.Spec.UpdateStrategy
	}
	s.Type = cmp.Or(s.Type, "RollingUpdate")
	if s.RollingUpdate == nil {
		s.RollingUpdate = &steps{}
	}
	return s
}

// least is how many pods may serve at the worst moment of a rollout.
func (w *workload) least() int {
	s, want := w.strategy(), w.want()
	switch w.target.Kind {
	case "Deployment":
		if s.Type == "Recreate" {
			return 0
		}
		surge, down := scaled(s.RollingUpdate.MaxSurge, "25%", want, true), scaled(s.RollingUpdate.MaxUnavailable, "25%", want, false)
		if surge == 0 {
			down = max(down, 1) // Kubernetes' own rule
		}
		return max(0, want-down)
	case "DaemonSet":
		if scaled(s.RollingUpdate.MaxSurge, "0", want, true) > 0 {
			return want
		}
		return max(0, want-scaled(s.RollingUpdate.MaxUnavailable, "1", want, true))
	case "StatefulSet":
		return max(0, want-max(1, scaled(s.RollingUpdate.MaxUnavailable, "1", want, false)))
	}
	return max(0, want-1) // a restart of Argo's takes one pod away at least, and adds none before
}

func scaled(value *intstr.IntOrString, otherwise string, of int, up bool) int {
	v := intstr.Parse(otherwise)
	n, err := intstr.GetScaledValueFromIntOrPercent(cmp.Or(value, &v), of, up)
	if err != nil {
		return 0 // the API server takes no such value
	}
	return n
}

// owns reports whether a pod is the workload's own; labels alone may fit the pods of others too.
func (w *workload) owns(pod *corev1.Pod) bool {
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return false
	}
	switch w.target.Kind {
	case "Deployment":
		return owner.Kind == "ReplicaSet" && owner.Name == w.Name+"-"+pod.Labels["pod-template-hash"]
	case "Rollout":
		return owner.Kind == "ReplicaSet" && owner.Name == w.Name+"-"+pod.Labels["rollouts-pod-template-hash"]
	}
	return owner.Kind == w.target.Kind && owner.Name == w.Name
}

// goes reports whether a rollout replaces the pod: a StatefulSet keeps those below its partition.
func (w *workload) goes(pod *corev1.Pod) bool {
	from := w.strategy().RollingUpdate.Partition
	if w.target.Kind != "StatefulSet" || from == nil {
		return true
	}
	ordinal, err := strconv.Atoi(pod.Name[strings.LastIndex(pod.Name, "-")+1:])
	return err != nil || ordinal >= int(*from)
}

// stalled is what the workload itself says of a rollout that it has given up.
func (w *workload) stalled() string {
	for _, c := range w.Status.Conditions {
		if c.Type == "Progressing" && c.Status == metav1.ConditionFalse || w.target.Kind == "Rollout" && c.Type == "InvalidSpec" && c.Status == metav1.ConditionTrue {
			return c.Reason + ": " + c.Message
		}
	}
	return ""
}
