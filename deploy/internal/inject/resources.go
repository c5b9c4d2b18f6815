package inject

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
	"github.com/drain-agent/drain-agent/deploy/internal/roles"
)

// guaranteed reports whether the pod has the class Guaranteed without the agent: each container, also those that run first, may use of
// processor and memory exactly what it asks for. An agent that asks for less than it may use would take the class away, and with it
// processors of its own, and the last place when a node runs out of memory.
func (p *Plan) guaranteed(w *manifest.Workload) bool {
	if (p.Stub || p.Proxy.Where == roles.Admission) && !istioEqual(w.Pod.Annotations) {
		return false // what the mesh adds takes it away
	}
	return !slices.ContainsFunc(w.Containers(), func(c *corev1.Container) bool {
		return !equal(&c.Resources, corev1.ResourceCPU) || !equal(&c.Resources, corev1.ResourceMemory)
	})
}

// equal reports whether request and limit are; a request that is not there becomes the limit.
func equal(r *corev1.ResourceRequirements, name corev1.ResourceName) bool {
	limit, limited := r.Limits[name]
	request, asked := r.Requests[name]
	return limited && limit.Sign() > 0 && (!asked || request.Cmp(limit) == 0)
}

// istioEqual reports whether Istio is told to give its proxy as much as it may use.
func istioEqual(annotations map[string]string) bool {
	return !slices.ContainsFunc([]string{"sidecar.istio.io/proxyCPU", "sidecar.istio.io/proxyMemory"}, func(name string) bool {
		request, err := resource.ParseQuantity(annotations[name])
		limit, wrong := resource.ParseQuantity(annotations[name+"Limit"])
		return err != nil || wrong != nil || limit.Sign() <= 0 || request.Cmp(limit) != 0
	})
}
