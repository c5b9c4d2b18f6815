package main

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// The API server itself judges a pod's class after the webhook has added the agent: it is the one that the pod had without it.
func TestClassOfPodsAtTheAPIServer(t *testing.T) {
	s := apiServer(t)
	s.controller(t)
	on, off := s.namespace(t, labelled, nil), s.namespace(t, nil, nil)
	amount := func(cpu, memory string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
	}
	each := func(requests, limits corev1.ResourceList) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			for i := range p.Spec.Containers {
				p.Spec.Containers[i].Resources = corev1.ResourceRequirements{Requests: requests, Limits: limits}
			}
		}
	}
	for name, row := range map[string]struct {
		change func(*corev1.Pod)
		class  corev1.PodQOSClass
	}{
		"all may use what they ask for": {each(amount("1", "128Mi"), amount("1", "128Mi")), corev1.PodQOSGuaranteed},
		"limits alone are requests too": {each(nil, amount("1", "128Mi")), corev1.PodQOSGuaranteed},
		"they may use more":             {each(amount("100m", "128Mi"), amount("1", "128Mi")), corev1.PodQOSBurstable},
		"the processor has no limit":    {each(amount("1", "128Mi"), corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("128Mi")}), corev1.PodQOSBurstable},
		"the pod as a whole, what it may use": {func(p *corev1.Pod) {
			p.Spec.Resources = &corev1.ResourceRequirements{Requests: amount("1", "256Mi"), Limits: amount("1", "256Mi")}
		}, corev1.PodQOSGuaranteed},
		"an init container may use more": {func(p *corev1.Pod) {
			each(amount("1", "128Mi"), amount("1", "128Mi"))(p)
			p.Spec.InitContainers = []corev1.Container{{Name: "setup", Image: "setup:1", Resources: corev1.ResourceRequirements{Requests: amount("1", "128Mi"), Limits: amount("2", "128Mi")}}}
		}, corev1.PodQOSBurstable},
	} {
		for _, shape := range []string{"native", "classic"} {
			t.Run(name+", "+shape, func(t *testing.T) {
				without := s.create(t, off, envoyPod, row.change)
				s.warnings.take()
				with := s.create(t, on, envoyPod, row.change, annotate("shape", shape))
				if agentOf(with) == nil || without.Status.QOSClass != row.class || with.Status.QOSClass != row.class {
					t.Errorf("%s without the agent, %s with it, want %s; warnings %q", without.Status.QOSClass, with.Status.QOSClass, row.class, s.warnings.take())
				}
				native := len(with.Spec.InitContainers) > 0 && strings.Contains(text(t, with.Spec.InitContainers), "restartPolicy: Always")
				if native != (shape == "native") {
					t.Errorf("shape %s:\n%s", shape, text(t, with.Spec))
				}
			})
		}
	}
	t.Run("without any resources there is no other way", func(t *testing.T) {
		if was, is := s.create(t, off, envoyPod).Status.QOSClass, s.create(t, on, envoyPod).Status.QOSClass; was != corev1.PodQOSBestEffort || is != corev1.PodQOSBurstable {
			t.Errorf("%s became %s", was, is)
		}
	})
}
