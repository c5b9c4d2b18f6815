//go:build e2e

package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/drain-agent/drain-agent/scripts/load/openloop"
)

// What pods in a mesh have besides: several containers, hooks of their own, other settings of Istio's. One rollout of each, after
// one command, loses nothing.
func TestIstioShapes(t *testing.T) {
	onlyMesh(t)
	hook := func(h corev1.LifecycleHandler) func(*workload) {
		return func(w *workload) { w.container("app").Lifecycle = &corev1.Lifecycle{PreStop: &h} }
	}
	exec := hook(corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"/app", "--help"}}})
	sleep := hook(corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 5}})
	get := hook(corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/metrics", Port: intstr.FromInt32(8090)}})
	for _, row := range []struct {
		name        string
		sidecar     map[string]string
		annotations map[string]string
		change      func(*workload)
	}{
		{"native, two containers", nativeIstio, nil, ledger},
		{"classic, two containers", classicIstio, nil, ledger},
		{"native, hold", nativeIstio, map[string]string{"proxy.istio.io/config": `{"holdApplicationUntilProxyStarts": true}`}, nil},
		{"classic, hold", classicIstio, map[string]string{"proxy.istio.io/config": `{"holdApplicationUntilProxyStarts": true}`}, nil},
		{"native, exec hook", nativeIstio, nil, exec},
		{"classic, exec hook", classicIstio, nil, exec},
		{"native, sleep hook", nativeIstio, nil, sleep},
		{"classic, http hook", classicIstio, nil, get},
		{"native, http hook", nativeIstio, nil, get},
		{"native, rewriting off", nativeIstio, map[string]string{
			"sidecar.istio.io/rewriteAppHTTPProbers": "false", "traffic.sidecar.istio.io/excludeInboundPorts": "8090",
		}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			text := payments(t, row.sidecar, func(w *workload) {
				w.annotate(row.annotations)
				if row.change != nil {
					row.change(w)
				}
			})
			w := meshed(t, drainctl(t, text, "inject", "-f", "-", "--app=app", meshSource))
			through := throughTLS(t)
			drained(t, w, roll(t, w, 1, func(p *openloop.Plan) {
				through(p)
				p.Rate, p.Slow = 50, 50
			}))
		})
	}
}

// ledger puts a second container that serves into the pod.
func ledger(w *workload) {
	second := w.container("app").DeepCopy()
	second.Name, second.Args = "ledger", []string{"--port=8081", "--mgmt-port=8091"}
	second.Ports = []corev1.ContainerPort{{Name: "ledger", ContainerPort: 8081}, {Name: "ledger-mgmt", ContainerPort: 8091}}
	for _, probe := range []*corev1.Probe{second.StartupProbe, second.ReadinessProbe, second.LivenessProbe} {
		probe.HTTPGet.Port = intstr.FromInt32(8091)
	}
	w.deployment.Spec.Template.Spec.Containers = append(w.deployment.Spec.Template.Spec.Containers, *second)
}

// istio-proxy is killed in mid-drain: what it carried is lost with it, as it would be without an agent. Nobody waits for it, and the
// verdict names it and not the app.
func TestIstioProxyKilled(t *testing.T) {
	onlyMesh(t)
	ownNode(t)
	for name, sidecar := range map[string]map[string]string{"native": nativeIstio, "classic": classicIstio} {
		t.Run(name, func(t *testing.T) {
			w := injectedIntoMesh(t, sidecar, meshSource)
			w.replicas(1).start(t)
			seen := watch(t, w.ns)
			pod := pods(t, w.ns, w.selector())[0]
			log := follow(t, w.ns, pod.Name, "drain-agent")
			work := meshRequest(t, w, 30*time.Second)
			kubectl(t, "-n", w.ns, "delete", "pod", pod.Name, "--wait=false")
			reaches(t, log, "draining")
			signal(t, pod, "istio-proxy", syscall.SIGKILL)
			if result := <-work; result == "200 OK" {
				t.Error("the request was served by a proxy that is dead")
			}
			last := seen.gone(t, pod.Name, 90*time.Second)
			if v := verdictOf(t, last); v.Outcome != "proxy_died" {
				t.Errorf("verdict %s (%s), want proxy_died", v.Outcome, v.Reason)
			}
			if took := seen.took(pod.Name); took > 45*time.Second {
				t.Errorf("the stop took %v", took)
			}
		})
	}
}

// istio-proxy is killed in a pod that lives on: kubelet starts it again and nothing is drained.
func TestIstioProxyRestarts(t *testing.T) {
	onlyMesh(t)
	ownNode(t)
	w := injectedIntoMesh(t, nativeIstio, meshSource).replicas(1).start(t)
	seen := watch(t, w.ns)
	pod := pods(t, w.ns, w.selector())[0]
	log := follow(t, w.ns, pod.Name, "drain-agent")
	signal(t, pod, "istio-proxy", syscall.SIGKILL)
	eventually(t, time.Minute, "istio-proxy was restarted and the pod is ready again", func() bool {
		now := podNamed(t, w.ns, pod.Name)
		return status(now, "istio-proxy").RestartCount == 1 && ready(now)
	})
	for _, e := range log.events() {
		if !slices.Contains([]string{"serving", "confirming", "holding"}, e.To) {
			t.Errorf("phase %s: %s", e.To, e.Reason)
		}
	}
	kubectl(t, "-n", w.ns, "delete", "pod", pod.Name, "--wait=false")
	stoppedCleanly(t, "after the restart", seen.gone(t, pod.Name, 90*time.Second))
}

// meshRequest sends one that takes that long through mutual TLS, and returns when the app has it.
func meshRequest(t *testing.T, w *workload, takes time.Duration) <-chan string {
	t.Helper()
	return ask(t, meshClient(t), "https://"+w.target(t), takes)
}

// onlyPod is the one pod of a namespace's Job, when there is one.
func onlyPod(t *testing.T, w *workload) (pod corev1.Pod, is bool) {
	t.Helper()
	all := pods(t, w.ns, w.selector())
	if len(all) != 1 {
		return pod, false
	}
	return all[0], true
}

// Jobs end by themselves under both kinds of sidecar, with the app's exit code.
func TestIstioJob(t *testing.T) {
	onlyMesh(t)
	for _, row := range []struct {
		name, arg, condition string
		code                 int32
	}{
		{"completes", "--duration=5s", "complete", 0},
		{"ends at once", "--no-such-flag", "failed", 1},
	} {
		t.Run("native, "+row.name, func(t *testing.T) {
			w := meshJob(t, nativeIstio, func(c *corev1.Container) {
				c.Args = []string{"client", "--target=payments:80", "--rate=5", row.arg}
			})
			payments := meshed(t, payments(t, nativeIstio, nil))
			payments.move(w.ns).replicas(1).start(t)
			w.apply(t)
			kubectl(t, "-n", w.ns, "wait", "job/"+w.job.Name, "--for=condition="+row.condition, "--timeout=120s")
			pod := pods(t, w.ns, w.selector())[0]
			if code := status(pod, "app").State.Terminated.ExitCode; code != row.code {
				t.Errorf("the app ended with %d, want %d", code, row.code)
			}
			stoppedCleanly(t, "job "+row.name, pod)
			hooksHeld(t, w.ns)
		})
	}
	t.Run("classic, ends after its port", func(t *testing.T) {
		ownNode(t)
		w := meshJob(t, classicIstio, serves)
		w.apply(t)
		eventually(t, time.Minute, "the job's pod is ready", func() bool {
			pod, is := onlyPod(t, w)
			return is && ready(pod)
		})
		pod, _ := onlyPod(t, w)
		signal(t, pod, "app", syscall.SIGTERM)
		kubectl(t, "-n", w.ns, "wait", "job/"+w.job.Name, "--for=condition=complete", "--timeout=60s")
		pod, _ = onlyPod(t, w)
		if v := verdictOf(t, pod); v.Outcome != "clean" || !strings.Contains(v.Trigger, "app ended") {
			t.Errorf("verdict %s (%s), trigger %q", v.Outcome, v.Reason, v.Trigger)
		}
	})
	t.Run("classic, ends before its port opened", func(t *testing.T) {
		w := meshJob(t, classicIstio, func(c *corev1.Container) {
			serves(c)
			c.Args = append(c.Args, "--no-such-flag")
		})
		w.job.Spec.ActiveDeadlineSeconds = new(int64(30)) // nothing else ends it: docs/how-to/jobs.md
		w.apply(t)
		kubectl(t, "-n", w.ns, "wait", "job/"+w.job.Name, "--for=condition=failed", "--timeout=120s")
	})
}

// serves makes the app one with a port that its agent can watch.
func serves(c *corev1.Container) {
	c.Args = []string{"serve", "--port=8080", "--mgmt-port=8090"}
	c.Ports = []corev1.ContainerPort{{Name: "mgmt", ContainerPort: 8090}}
}

// meshJob is a Job as people have it, after one command.
func meshJob(t *testing.T, sidecar map[string]string, change func(*corev1.Container)) *workload {
	t.Helper()
	var deployment *workload
	_ = payments(t, sidecar, func(w *workload) { deployment = w })
	app := deployment.container("app")
	app.StartupProbe, app.ReadinessProbe, app.LivenessProbe, app.Ports = nil, nil, nil, nil
	change(app)
	classicJob(deployment)
	deployment.job.Spec.Template.Labels["app.kubernetes.io/name"] = "settlement"
	text, err := json.Marshal(deployment.job)
	if err != nil {
		t.Fatal(err)
	}
	return meshed(t, drainctl(t, text, "inject", "-f", "-"))
}
