//go:build e2e

package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// resolve makes the name of a Service known to a pod, on a node without cluster DNS.
func (w *workload) resolve(t *testing.T, service *workload) *workload {
	t.Helper()
	var s corev1.Service
	if err := json.Unmarshal(kubectl(t, "-n", service.ns, "get", "service", service.service.Name, "-o", "json"), &s); err != nil {
		t.Fatal(err)
	}
	w.spec().HostAliases = []corev1.HostAlias{{IP: s.Spec.ClusterIP, Hostnames: []string{"payments.payments"}}}
	return w
}

// Row 5, Job completion with native sidecars: the Job ends as its app does, and the stop of its pod has a verdict.
func TestJob(t *testing.T) {
	t.Parallel()
	service := load(t, "native", namespace(t, "restricted")).replicas(1).start(t)
	for _, row := range []struct {
		name, arg string
		code      int32
		condition string
	}{
		{"completes", "--duration=5s", 0, "complete"},
		{"fails", "--no-such-flag", 1, "failed"},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := load(t, "job", namespace(t, "restricted")).resolve(t, service)
			once := int32(0)
			w.job.Spec.BackoffLimit = &once
			app := w.container("app")
			app.Args = append(app.Args[:len(app.Args)-1:len(app.Args)-1], row.arg)
			w.apply(t)
			kubectl(t, "-n", w.ns, "wait", "job/"+w.job.Name, "--for=condition="+row.condition, "--timeout=90s")
			pod := pods(t, w.ns, w.selector())[0]
			if code := status(pod, "app").State.Terminated.ExitCode; code != row.code {
				t.Errorf("the app ended with %d, want %d", code, row.code)
			}
			stoppedCleanly(t, "job "+row.name, pod)
		})
	}
}

// The same with regular containers, which nobody would stop: --exit-with=app. Agent and proxy end by themselves, with 0.
func TestClassicJob(t *testing.T) {
	t.Parallel()
	ownNode(t)
	for _, row := range []struct {
		name   string
		signal syscall.Signal
		code   int32
	}{{"app succeeds", syscall.SIGTERM, 0}, {"app is killed", syscall.SIGKILL, 137}} {
		t.Run(row.name, func(t *testing.T) {
			w := classicJob(load(t, "classic", namespace(t, "restricted")).set("exit-with=app", "quit-proxy=true"))
			w.apply(t)
			eventually(t, time.Minute, "the job's pod is ready", func() bool {
				all := pods(t, w.ns, w.selector())
				return len(all) == 1 && ready(all[0])
			})
			signal(t, pods(t, w.ns, w.selector())[0], "app", row.signal)
			eventually(t, 30*time.Second, "every container has ended", func() bool {
				return pods(t, w.ns, w.selector())[0].Status.Phase != corev1.PodRunning
			})
			pod := pods(t, w.ns, w.selector())[0]
			for container, want := range map[string]int32{"app": row.code, "proxy": 0, "drain-agent": 0} {
				if got := status(pod, container).State.Terminated.ExitCode; got != want {
					t.Errorf("%s ended with %d, want %d", container, got, want)
				}
			}
			if v := verdictOf(t, pod); v.Outcome != "clean" || !strings.Contains(v.Trigger, "app ended") {
				t.Errorf("verdict %s (%s), trigger %q", v.Outcome, v.Reason, v.Trigger)
			}
		})
	}
}

// classicJob makes a Job of a Deployment's pod, whose app is ended from outside.
func classicJob(w *workload) *workload {
	once := int32(0)
	template := w.deployment.Spec.Template
	template.Spec.RestartPolicy = corev1.RestartPolicyNever
	w.job = &batchv1.Job{
		TypeMeta:   metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: metav1.ObjectMeta{Name: "worker", Namespace: w.ns},
		Spec:       batchv1.JobSpec{BackoffLimit: &once, Template: template},
	}
	w.deployment, w.budget = nil, nil
	return w
}

// An Envoy without an app: the requests it forwards are waited for, and a rollout of it loses none.
func TestGateway(t *testing.T) {
	t.Parallel()
	service := load(t, "native", namespace(t, "restricted")).replicas(1).start(t)
	w := load(t, "gateway", namespace(t, "restricted")).resolve(t, service).replicas(1).start(t)
	seen := watch(t, w.ns)
	pod := pods(t, w.ns, w.selector())[0]
	answer := request(t, w.target(t), 6*time.Second)
	kubectl(t, "-n", w.ns, "rollout", "restart", "deployment/"+w.deployment.Name)
	if result := <-answer; result != "200 OK" {
		t.Errorf("the request under way ended with %s", result)
	}
	v := verdictOf(t, seen.gone(t, pod.Name, time.Minute))
	if v.Outcome != "clean" {
		t.Errorf("verdict %s: %s", v.Outcome, v.Reason)
	}
	response, err := http.Get("http://" + w.target(t) + "/work?ms=1")
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("the successor answered %v, %v", response, err)
	}
	response.Body.Close()
}
