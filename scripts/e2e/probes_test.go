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
	for way, ask := range askedBy() {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			w := load(t, "native", namespace(t, "restricted")).replicas(1)
			w.container("drain-agent").ReadinessProbe = eager(ask("readiness"))
			w.container("drain-agent").LivenessProbe = eager(ask("liveness"))
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
				t.Errorf("the agent was restarted %d times: it lives, in service or not", n)
			}
		})
	}
}

// askedBy is what kubelet can ask the agent for, by way.
func askedBy() map[string]func(what string) corev1.ProbeHandler {
	path := map[string]string{"readiness": "/readyz", "liveness": "/livez"}
	return map[string]func(string) corev1.ProbeHandler{
		"http": func(what string) corev1.ProbeHandler {
			return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path[what], Port: intstr.FromInt32(9909)}}
		},
		"grpc": func(what string) corev1.ProbeHandler {
			return corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 9909, Service: &what}}
		},
		"exec": func(what string) corev1.ProbeHandler {
			return corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/drain-agent", "probe", "http://127.0.0.1:9909" + path[what]}}}
		},
	}
}

// eager is a probe of every second whose first failure counts.
func eager(ask corev1.ProbeHandler) *corev1.Probe {
	return &corev1.Probe{ProbeHandler: ask, PeriodSeconds: 1, TimeoutSeconds: 5, FailureThreshold: 1}
}

// During a pod's stop readiness is what --fail-readiness says: left alone, or failing from the drain on.
func TestReadinessDuringAPodStop(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ when, way string }{{"never", "http"}, {"never", "exec"}, {"draining", "http"}, {"draining", "grpc"}, {"trigger", "exec"}} {
		t.Run(row.when+" "+row.way, func(t *testing.T) {
			t.Parallel()
			w := load(t, "native", namespace(t, "restricted")).replicas(1).set("fail-readiness=" + row.when)
			w.container("drain-agent").ReadinessProbe = eager(askedBy()[row.way]("readiness"))
			w.start(t)
			seen := watch(t, w.ns)
			pod := pods(t, w.ns, w.selector())[0]
			answer := request(t, w.target(t), 16*time.Second) // long enough for a status that comes late
			kubectl(t, "-n", w.ns, "scale", "deployment/"+w.deployment.Name, "--replicas=0")
			if result := <-answer; result != "200 OK" {
				t.Errorf("the request under way ended with %s", result)
			}
			failed := slices.ContainsFunc(seen.of(pod.Name), func(s podState) bool { return !status(s.pod, "drain-agent").Ready })
			if want := row.when != "never"; failed != want {
				t.Errorf("readiness failed while a request was under way: %v, want %v", failed, want)
			}
			seen.gone(t, pod.Name, time.Minute)
		})
	}
}
