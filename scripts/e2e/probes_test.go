//go:build e2e

package e2e

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Row 8: kubelet itself asks, in each of its three ways, before, during and after a drain.
func TestProbesByKubelet(t *testing.T) {
	t.Parallel()
	service := "readiness"
	ways := map[string]corev1.ProbeHandler{
		"http": {HTTPGet: &corev1.HTTPGetAction{Path: "/readyz", Port: intstr.FromInt32(9909)}},
		"grpc": {GRPC: &corev1.GRPCAction{Port: 9909, Service: &service}},
		"exec": {Exec: &corev1.ExecAction{Command: []string{"/drain-agent", "probe", "http://127.0.0.1:9909/readyz"}}},
	}
	for way, handler := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			w := load(t, "native", namespace(t, "restricted")).replicas(1)
			w.container("drain-agent").ReadinessProbe = &corev1.Probe{ProbeHandler: handler, PeriodSeconds: 1, TimeoutSeconds: 5, FailureThreshold: 1}
			w.start(t)
			operate := func(verb string) {
				kubectl(t, "-n", w.ns, "exec", "deployment/"+w.deployment.Name, "-c", "drain-agent", "--", "/drain-agent", verb, "--reason=e2e")
			}
			becomes := func(want bool) {
				eventually(t, time.Minute, "readiness changes", func() bool {
					pod := pods(t, w.ns, w.selector())[0]
					return status(pod, "drain-agent").Ready == want
				})
			}
			operate("drain")
			becomes(false)
			operate("undrain")
			becomes(true)
			if n := status(pods(t, w.ns, w.selector())[0], "drain-agent").RestartCount; n != 0 {
				t.Errorf("the agent was restarted %d times: readiness is no reason", n)
			}
		})
	}
}

// During a pod's stop readiness is what --fail-readiness says: left alone, or failing from the drain on.
func TestReadinessDuringAPodStop(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"never", "draining"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			w := load(t, "native", namespace(t, "restricted")).replicas(1).set("fail-readiness=" + when)
			w.container("drain-agent").ReadinessProbe.PeriodSeconds = 1
			w.container("drain-agent").ReadinessProbe.FailureThreshold = 1
			w.start(t)
			seen := watch(t, w.ns)
			pod := pods(t, w.ns, w.selector())[0]
			answer := request(t, w.target(t), 8*time.Second)
			kubectl(t, "-n", w.ns, "scale", "deployment/"+w.deployment.Name, "--replicas=0")
			<-answer
			failed := slices.ContainsFunc(seen.of(pod.Name), func(s podState) bool { return !status(s.pod, "drain-agent").Ready })
			if want := when == "draining"; failed != want {
				t.Errorf("readiness failed while a request was under way: %v, want %v", failed, want)
			}
			seen.gone(t, pod.Name, time.Minute)
		})
	}
}
