package ledger

import (
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
)

// strip leaves of a pod what the ledger reads: a cluster has many pods, and most have no agent. It may be applied twice.
func strip(object any) (any, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok || len(pod.Spec.Containers) == 0 { // stripped before: each pod has a container
		return object, nil
	}
	out := &corev1.Pod{}
	out.Namespace, out.Name, out.UID, out.ResourceVersion = pod.Namespace, pod.Name, pod.UID, pod.ResourceVersion
	names := manifest.Agents(&pod.Spec)
	if len(names) == 0 {
		return out, nil
	}
	out.CreationTimestamp, out.DeletionTimestamp, out.DeletionGracePeriodSeconds = pod.CreationTimestamp, pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds
	for _, owner := range pod.OwnerReferences {
		if owner.Controller != nil && *owner.Controller {
			out.OwnerReferences = append(out.OwnerReferences, owner)
		}
	}
	out.Labels = map[string]string{revisionLabel: revision(pod)}
	out.Annotations = map[string]string{agentsKey: strings.Join(names, ","), portKey: portOf(&pod.Spec, names[0])}
	out.Status.PodIP = pod.Status.PodIP
	out.Spec.NodeName, out.Spec.TerminationGracePeriodSeconds = pod.Spec.NodeName, pod.Spec.TerminationGracePeriodSeconds
	out.Status.Phase, out.Status.Reason = pod.Status.Phase, pod.Status.Reason
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if slices.Contains(names, s.Name) {
			out.Status.ContainerStatuses = append(out.Status.ContainerStatuses, corev1.ContainerStatus{Name: s.Name, State: s.State, LastTerminationState: s.LastTerminationState})
		}
	}
	return out, nil
}

// Where a stripped pod keeps its revision, the names of its agents and the port of the first.
const revisionLabel, agentsKey, portKey = "revision", "agents", "port"

// portOf is where an agent answers: as --listen says, else 9909. A pod's author writes what they like: only a number is a port.
func portOf(spec *corev1.PodSpec, agent string) string {
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		if c.Name != agent {
			continue
		}
		for _, arg := range c.Args {
			if at, ok := strings.CutPrefix(arg, "--listen="); ok {
				_, port, _ := net.SplitHostPort(at)
				if n, err := strconv.ParseUint(port, 10, 16); err == nil && n > 0 {
					return port
				}
			}
		}
	}
	return "9909"
}

// hasAgent reads a stripped pod.
func hasAgent(pod *corev1.Pod) bool { return pod.Annotations[agentsKey] != "" }

// revision tells the pods of one template from those of the next.
func revision(pod *corev1.Pod) string {
	for _, label := range []string{"pod-template-hash", "rollouts-pod-template-hash", "controller-revision-hash", "batch.kubernetes.io/job-name"} {
		if value := pod.Labels[label]; value != "" {
			return value
		}
	}
	return ""
}
