package manifest

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// scaler is as much of an autoscaler as is read here, in any version.
type scaler struct {
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		ScaleTargetRef struct {
			Kind string `json:"kind"`
			Name string `json:"name"`
		} `json:"scaleTargetRef"`
		MinReplicas *int32 `json:"minReplicas"`
		MaxReplicas int32  `json:"maxReplicas"`
	} `json:"spec"`
}

// mutualTLS is as much of a PeerAuthentication as is read here.
type mutualTLS struct {
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Selector *metav1.LabelSelector `json:"selector"`
		MTLS     mode                  `json:"mtls"`
		Ports    map[string]mode       `json:"portLevelMtls"`
	} `json:"spec"`
}

type mode struct {
	Mode string `json:"mode"`
}

// neighbour returns what an object that tells of the pods beside it is read into; nil for others.
func neighbour(o *Object) any {
	switch o.Group() + " " + o.Kind {
	case "core Service":
		return &corev1.Service{}
	case "core Namespace":
		return &corev1.Namespace{}
	case "core ConfigMap":
		return &corev1.ConfigMap{}
	case "networking.k8s.io NetworkPolicy":
		return &networkingv1.NetworkPolicy{}
	case "networking.k8s.io Ingress":
		return &networkingv1.Ingress{}
	case "policy PodDisruptionBudget":
		return &policyv1.PodDisruptionBudget{}
	case "autoscaling HorizontalPodAutoscaler":
		return &scaler{}
	case "security.istio.io PeerAuthentication":
		return &mutualTLS{}
	}
	return nil
}

// readable returns what is wrong with an object that tells of the pods beside it: the API server would refuse it, and to pass it over
// would be to say that it tells nothing.
func (o *Object) readable() error {
	into := neighbour(o)
	if into == nil {
		return nil
	}
	err := o.Into(into)
	if err == nil {
		err = o.selects()
	}
	if err != nil {
		return errors.New(Plainly(err))
	}
	return nil
}

// selects reads the labels by which an object selects pods.
func (o *Object) selects() error {
	key := "selector"
	if o.Kind == "NetworkPolicy" {
		key = "podSelector"
	}
	m, isMap := o.Spec()[key].(map[string]any)
	if !isMap || o.Kind == "Service" { // its own type knows that one
		return nil
	}
	var selector metav1.LabelSelector
	if err := convert(m, &selector); err != nil {
		return err
	}
	if _, err := metav1.LabelSelectorAsSelector(&selector); err != nil {
		return fmt.Errorf("spec.%s: %w", key, err)
	}
	return nil
}
