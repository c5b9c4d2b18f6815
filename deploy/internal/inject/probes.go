package inject

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
)

// ProbesThrough returns the HTTP and gRPC probes of the pod that pass the proxy, as "container probe", and their rate per second:
// those whose port is one of the proxy's. Under Istio probes go to pilot-agent and from there straight to the app.
func ProbesThrough(w *manifest.Workload, proxy string) (names []string, rate float64) {
	through := map[int32]bool{}
	if c := w.Named(proxy); c != nil {
		for _, port := range c.Ports {
			through[port.ContainerPort] = !slices.Contains([]string{"admin", "envoy-admin", "metrics", "health", "readiness", "status"}, port.Name)
		}
	}
	for _, c := range w.Containers() {
		for name, probe := range map[string]*corev1.Probe{"livenessProbe": c.LivenessProbe, "readinessProbe": c.ReadinessProbe} {
			if probe != nil && through[probePort(c, probe)] {
				names = append(names, c.Name+" "+name)
				rate += 1 / float64(max(cmp.Or(probe.PeriodSeconds, 10), 1))
			}
		}
	}
	slices.Sort(names)
	return names, rate
}

func probePort(c *corev1.Container, probe *corev1.Probe) int32 {
	switch {
	case probe.GRPC != nil:
		return probe.GRPC.Port
	case probe.HTTPGet != nil:
		return portOf(c, probe.HTTPGet.Port)
	}
	return 0
}

// portOf returns a port's number, 0 for a name that the container does not declare.
func portOf(c *corev1.Container, port intstr.IntOrString) int32 {
	for _, one := range c.Ports {
		if one.Name != "" && one.Name == port.StrVal {
			return one.ContainerPort
		}
	}
	return port.IntVal
}
