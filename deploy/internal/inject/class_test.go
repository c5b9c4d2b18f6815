package inject_test

import (
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/deploy/internal/inject"
)

// class is the quality-of-service class of a pod, from the sums over its containers, as Kubernetes computes it.
func class(spec *corev1.PodSpec) corev1.PodQOSClass {
	requests, limits, guaranteed := corev1.ResourceList{}, corev1.ResourceList{}, true
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		if c.Name == "istio-proxy" && c.Image == "auto" {
			continue // Istio fills it as the annotations say
		}
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			limit, limited := c.Resources.Limits[name]
			request, asked := c.Resources.Requests[name]
			guaranteed = guaranteed && limited
			if !asked {
				request = limit // the API server fills it in
			}
			sum, most := requests[name], limits[name]
			sum.Add(request)
			most.Add(limit)
			requests[name], limits[name] = sum, most
		}
	}
	set := slices.ContainsFunc(slices.Collect(maps.Keys(requests)), func(name corev1.ResourceName) bool {
		sum, most := requests[name], limits[name]
		guaranteed = guaranteed && sum.Cmp(most) == 0
		return !sum.IsZero() || !most.IsZero()
	})
	switch {
	case guaranteed:
		return corev1.PodQOSGuaranteed
	case set:
		return corev1.PodQOSBurstable
	}
	return corev1.PodQOSBestEffort
}

// A Guaranteed pod stays one, in both shapes, whatever of ours it gets; others pay nothing for it.
func TestGuaranteedPodsStayGuaranteed(t *testing.T) {
	const name = "83-guaranteed"
	keeps := map[string]bool{"pinned": true, "meshed": true}
	for _, shape := range []string{"auto", "classic"} {
		o := options(name)
		o.Shape = shape
		out, reports, err := inject.File(name, shapes(t)[name], o)
		if err != nil || len(planned(reports)) != 5 {
			t.Fatalf("%v, %d pods got an agent", err, len(planned(reports)))
		}
		before := pods(t, name, shapes(t)[name])
		for i, w := range pods(t, name, out) {
			was, is := class(&before[i].Pod.Spec), class(&w.Pod.Spec)
			if keeps[w.Name] && (was != corev1.PodQOSGuaranteed || is != was) {
				t.Errorf("%s, %s: was %s, is %s", w.Name, shape, was, is)
			}
			for _, c := range slices.Concat(w.Pod.Spec.InitContainers, w.Pod.Spec.Containers) {
				if _, limited := c.Resources.Limits[corev1.ResourceCPU]; c.Name == "drain-agent" && limited != keeps[w.Name] {
					t.Errorf("%s, %s: its agent's limits are %v", w.Name, shape, c.Resources.Limits)
				}
			}
		}
	}
}
