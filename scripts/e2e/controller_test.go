//go:build e2e

package e2e

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// The controller is installed, a namespace labelled, and an ordinary Deployment with Envoy rolled under load: its manifest knows
// nothing of the agent, its pods have one, and nothing is lost. Without the controller new pods start all the same.
func TestController(t *testing.T) {
	install := exec.CommandContext(t.Context(), "go", "run", "../../deploy/drainctl", "install", "--namespace=e2e-drain-system")
	objects, err := install.Output()
	if err != nil {
		t.Fatal(err)
	}
	feed(t, objects, "apply", "--server-side", "-f", "-")
	t.Cleanup(func() { feed(t, objects, "delete", "--ignore-not-found", "--wait=false", "-f", "-") })
	kubectl(t, "-n", "e2e-drain-system", "rollout", "status", "deployment/drain-controller", "--timeout=240s")
	ns := namespace(t, "restricted")
	kubectl(t, "label", "namespace", ns, "drain-agent.io/inject=enabled")
	kubectl(t, "annotate", "namespace", ns, "drain-agent.io/app-source=prometheus:http://127.0.0.1:8090/metrics#active_requests")
	w := parse(t, kubectl(t, "kustomize", "testdata/ordinary"), ns)
	w.start(t)
	for _, pod := range pods(t, ns, w.selector()) {
		if !hasAgent(pod) {
			t.Fatalf("pod %s has no agent; the controller says:\n%s", pod.Name, kubectl(t, "-n", "e2e-drain-system", "logs", "deployment/drain-controller", "--tail=40"))
		}
	}
	lostNothing(t, roll(t, w, max(1, *rollouts/3)))
	keepsClassAndOrder(t)

	kubectl(t, "-n", "e2e-drain-system", "scale", "deployment/drain-controller", "--replicas=0")
	kubectl(t, "-n", "e2e-drain-system", "wait", "--for=delete", "pod", "-l", "app.kubernetes.io/name=drain-controller", "--timeout=90s")
	began := time.Now()
	kubectl(t, "-n", ns, "rollout", "restart", "deployment/"+w.deployment.Name)
	w.rolledOut(t)
	w.terminated(t)
	t.Logf("a rollout without the controller took %v", time.Since(began).Round(time.Second))
	for _, pod := range pods(t, ns, w.selector()) {
		if hasAgent(pod) {
			t.Errorf("pod %s has an agent although nobody was there to add it", pod.Name)
		}
	}
}

func hasAgent(pod corev1.Pod) bool {
	return strings.Contains(containerNames(pod), "drain-agent")
}

func containerNames(pod corev1.Pod) string {
	var names bytes.Buffer
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for _, c := range list {
			names.WriteString(c.Name + " ")
		}
	}
	return names.String()
}
