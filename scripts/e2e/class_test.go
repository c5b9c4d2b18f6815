//go:build e2e

package e2e

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// startsGuaranteed starts a pod in which each container may use what it asks for, and returns it with how long it took from its first
// container's start until it was ready.
func startsGuaranteed(t *testing.T, labels ...string) (corev1.Pod, time.Duration) {
	t.Helper()
	ns := namespace(t, "restricted")
	for _, label := range labels {
		kubectl(t, "label", "namespace", ns, label)
	}
	w := parse(t, kubectl(t, "kustomize", "testdata/ordinary"), ns).replicas(1)
	all := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi")}
	for _, container := range w.containers() {
		container.Resources = corev1.ResourceRequirements{Requests: all, Limits: all}
	}
	w.start(t)
	pod := pods(t, ns, w.selector())[0]
	var began, ready metav1.Time
	for _, container := range append(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses...) {
		if at := container.State.Running; at != nil && (began.IsZero() || at.StartedAt.Before(&began)) {
			began = at.StartedAt
		}
	}
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			ready = condition.LastTransitionTime
		}
	}
	return pod, ready.Sub(began.Time)
}

// keepsClassAndOrder: kubelet sees the class that the pod had without the agent, and starts the agent, then Envoy, then the app.
func keepsClassAndOrder(t *testing.T) {
	t.Helper()
	_, without := startsGuaranteed(t)
	pod, with := startsGuaranteed(t, "drain-agent.io/inject=enabled")
	if !hasAgent(pod) || pod.Status.QOSClass != corev1.PodQOSGuaranteed {
		t.Errorf("pod %s (%s) has the class %s", pod.Name, containerNames(pod), pod.Status.QOSClass)
	}
	agent, proxy, app := status(pod, "drain-agent").State.Running, status(pod, "proxy").State.Running, status(pod, "app").State.Running
	if agent == nil || proxy == nil || app == nil || proxy.StartedAt.Before(&agent.StartedAt) || app.StartedAt.Before(&proxy.StartedAt) {
		t.Errorf("started: agent %v, proxy %v, app %v", agent, proxy, app)
	}
	t.Logf("first container to ready: %v with the agent, %v without", with, without)
	if with > without+10*time.Second {
		t.Errorf("ready after %v, without the agent after %v", with, without)
	}
}
