package manifest

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/drain-agent/drain-agent/deploy/internal/roles"
)

// Roles finds the roles of a workload's containers, with what the objects beside it tell. proxy is the user's word for the
// proxy, said the user's roles of containers; both may be empty.
func (w *Workload) Roles(objects []*Object, proxy string, said map[string]roles.Role) *roles.Pod {
	return roles.Assign(roles.Input{Pod: w.Pod, Job: w.Job(), Roles: said, Proxy: proxy, Neighbours: w.neighbours(objects)})
}

// Selected reports whether a label selector, as a mapping of labels or with matchLabels and matchExpressions, selects the pods.
func (w *Workload) Selected(by *Object, selector any) bool {
	if by.Namespace != w.Namespace || selector == nil {
		return false
	}
	var parsed metav1.LabelSelector
	m, ok := selector.(map[string]any)
	if !ok || len(m) == 0 {
		return false
	}
	if m["matchLabels"] == nil && m["matchExpressions"] == nil {
		m = map[string]any{"matchLabels": m}
	}
	if convert(m, &parsed) != nil {
		return false
	}
	s, err := metav1.LabelSelectorAsSelector(&parsed)
	return err == nil && s.Matches(labels.Set(w.Pod.Labels))
}

// Closed returns the names of the NetworkPolicies that let nobody but the node reach a port of the workload's pods; none where one of
// the policies opens it, or where no policy is about what comes in.
func (w *Workload) Closed(objects []*Object, port int32, name string) (by []string) {
	for _, o := range objects {
		var p networkingv1.NetworkPolicy
		if o.Kind != "NetworkPolicy" || o.Namespace != w.Namespace || o.Into(&p) != nil ||
			len(p.Spec.PolicyTypes) > 0 && !slices.Contains(p.Spec.PolicyTypes, networkingv1.PolicyTypeIngress) {
			continue
		}
		s, err := metav1.LabelSelectorAsSelector(&p.Spec.PodSelector)
		if err != nil || !s.Matches(labels.Set(w.Pod.Labels)) {
			continue
		}
		if slices.ContainsFunc(p.Spec.Ingress, func(rule networkingv1.NetworkPolicyIngressRule) bool {
			return len(rule.Ports) == 0 || slices.ContainsFunc(rule.Ports, func(one networkingv1.NetworkPolicyPort) bool { return opens(one, port, name) })
		}) {
			return nil
		}
		by = append(by, o.Name)
	}
	return by
}

func opens(one networkingv1.NetworkPolicyPort, port int32, name string) bool {
	switch {
	case one.Protocol != nil && *one.Protocol != corev1.ProtocolTCP:
		return false
	case one.Port == nil:
		return true
	case one.Port.StrVal != "":
		return one.Port.StrVal == name
	case one.EndPort != nil:
		return one.Port.IntVal <= port && port <= *one.EndPort
	}
	return one.Port.IntVal == port
}

// MutualTLS is the mode that a PeerAuthentication sets for a port of the workload's pods; "" where it says nothing of them.
func (w *Workload) MutualTLS(o *Object, port int32) string {
	var policy mutualTLS
	if o.Kind != "PeerAuthentication" || o.Into(&policy) != nil {
		return ""
	}
	selector := cmp.Or(policy.Spec.Selector, &metav1.LabelSelector{})
	s, err := metav1.LabelSelectorAsSelector(selector)
	meshWide := o.Namespace == "istio-system" && policy.Spec.Selector == nil
	if err != nil || !meshWide && (o.Namespace != w.Namespace || !s.Matches(labels.Set(w.Pod.Labels))) {
		return ""
	}
	return cmp.Or(policy.Spec.Ports[strconv.Itoa(int(port))].Mode, policy.Spec.MTLS.Mode)
}

// Services returns the Services that select the workload's pods.
func (w *Workload) Services(objects []*Object) (out []*corev1.Service) {
	for _, o := range objects {
		if o.Kind != "Service" || o.Group() != "core" || !w.Selected(o, o.Spec()["selector"]) {
			continue
		}
		var s corev1.Service
		if o.Into(&s) == nil {
			out = append(out, &s)
		}
	}
	return out
}

// Balancer returns the preset of the load balancer that sends to the pods, and the object that says so; "" where there is none.
func (w *Workload) Balancer(objects []*Object) (preset string, by *Object) {
	services := map[string]bool{}
	for _, o := range objects {
		if o.Kind != "Service" || o.Group() != "core" || !w.Selected(o, o.Spec()["selector"]) {
			continue
		}
		services[o.Name] = true
		kind := o.Annotations["service.beta.kubernetes.io/aws-load-balancer-type"]
		switch {
		case kind == "nlb" || kind == "nlb-ip" || kind == "external", o.Spec()["loadBalancerClass"] == "service.k8s.aws/nlb":
			return "nlb", o
		case o.Annotations["cloud.google.com/neg"] != "", o.Annotations["cloud.google.com/l4-rbs"] != "":
			return "gclb", o
		}
	}
	for _, o := range objects {
		if o.Kind != "Ingress" || o.Namespace != w.Namespace {
			continue
		}
		alb := o.Spec()["ingressClassName"] == "alb" || o.Annotations["kubernetes.io/ingress.class"] == "alb" || o.Annotations["alb.ingress.kubernetes.io/target-type"] != ""
		if alb && leadsTo(o.Spec(), services) {
			return "alb", o
		}
	}
	return "", nil
}

// leadsTo reports whether an Ingress names one of these Services as a backend, in the form of any version.
func leadsTo(value any, services map[string]bool) bool {
	switch v := value.(type) {
	case map[string]any:
		if service, ok := v["service"].(map[string]any); ok && services[text(service["name"])] || services[text(v["serviceName"])] {
			return true
		}
		for _, one := range v {
			if leadsTo(one, services) {
				return true
			}
		}
	case []any:
		for _, one := range v {
			if leadsTo(one, services) {
				return true
			}
		}
	}
	return false
}

func (w *Workload) neighbours(objects []*Object) roles.Neighbours {
	n := roles.Neighbours{ConfigMaps: map[string]map[string]string{}}
	for _, s := range w.Services(objects) {
		if s.Spec.ClusterIP == corev1.ClusterIPNone { // names of pods, as every StatefulSet needs one
			continue
		}
		for _, port := range s.Spec.Ports {
			target := port.TargetPort
			if target.StrVal == "" && target.IntVal == 0 {
				target.IntVal = port.Port
			}
			n.TargetPorts = append(n.TargetPorts, target)
		}
	}
	for _, o := range objects {
		switch data, _ := o.Value["data"].(map[string]any); {
		case o.Kind == "ConfigMap" && o.Name == "istio" && data["mesh"] != nil:
			n.MeshConfigs = append(n.MeshConfigs, fmt.Sprint(data["mesh"]))
		case o.Kind == "ConfigMap" && o.Namespace == w.Namespace:
			texts := map[string]string{}
			for key, one := range data {
				texts[key] = fmt.Sprint(one)
			}
			n.ConfigMaps[o.Name] = texts
		case o.Kind == "IstioOperator" && o.Node != nil:
			n.MeshConfigs = append(n.MeshConfigs, string(o.Doc.Text))
		case o.Kind == "Namespace" && o.Name == w.Namespace:
			n.NamespaceLabels, n.NamespaceAnnotations = o.Labels, o.Annotations
		}
	}
	return n
}
