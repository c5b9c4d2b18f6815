package inject

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
)

// addPort chooses the agent's port: 9909, or the next that nothing in the pod takes. Pods in the host's network share the node's
// ports: every such workload gets another one.
func (p *Plan) addPort(w *manifest.Workload, objects []*manifest.Object, o Options) error {
	taken := map[int32]bool{}
	for _, c := range w.Containers() {
		for _, port := range c.Ports {
			taken[port.ContainerPort], taken[port.HostPort] = true, true
		}
		for _, probe := range []*corev1.Probe{c.ReadinessProbe, c.LivenessProbe, c.StartupProbe} {
			if probe != nil && probe.HTTPGet != nil {
				taken[portOf(c, probe.HTTPGet.Port)] = true
			}
		}
	}
	if p.Proxy.Config != nil {
		for _, port := range p.Proxy.Config.Listens {
			taken[port] = true
		}
	}
	if o.Port > 0 {
		p.Port = o.Port
		if taken[p.Port] {
			return fmt.Errorf("port %d is taken in this pod: name another for the agent, or none", p.Port)
		}
		return nil
	}
	p.Port = Port
	if p.HostNetwork {
		p.Port += int32(hostIndex(w, objects)) //nolint:gosec // the number of workloads
	}
	for taken[p.Port] {
		p.Port++
	}
	switch {
	case p.HostNetwork:
		p.HostPort = fmt.Sprintf("the pods are in the host's network: the agent takes port %d of every node they run on; where another workload there has it, --port (annotation %sport) names a free one", p.Port, SettingPrefix)
		p.note(p.HostPort)
	case p.Port != Port:
		p.note(fmt.Sprintf("port %d is taken in this pod: the agent listens on %d", Port, p.Port))
	}
	if p.Port > Port+90 {
		return fmt.Errorf("no free port for the agent from %d on", Port)
	}
	return nil
}

// hostIndex is the workload's place among those in the host's network, by name.
func hostIndex(w *manifest.Workload, objects []*manifest.Object) int {
	var all []string
	for _, o := range objects {
		if o.Workload != nil && o.Workload.Pod.Spec.HostNetwork {
			all = append(all, key(o))
		}
	}
	slices.Sort(all)
	return max(slices.Index(slices.Compact(all), key(w.Object)), 0)
}
