//go:build e2e

package e2e

import (
	"slices"
	"testing"
	"time"
)

// Row 11: kubelet restarts in mid-drain, forgets its calls and makes them again.
func TestKubeletRestartsInMidDrain(t *testing.T) {
	ownNode(t)
	w := load(t, "native", namespace(t, "restricted")).replicas(1).start(t)
	seen := watch(t, w.ns)
	pod := pods(t, w.ns, w.selector())[0]
	log := follow(t, w.ns, pod.Name, "drain-agent")
	answer := request(t, w.target(t), 24*time.Second)
	kubectl(t, "-n", w.ns, "scale", "deployment/"+w.deployment.Name, "--replicas=0")
	reaches(t, log, "draining")
	restartKubelet(t)
	if slices.Contains(answered(log.events()), "app") {
		t.Error("the app's hook was answered before the new kubelet was well: nothing was tried")
	}
	if result := <-answer; result != "200 OK" {
		t.Errorf("the request under way ended with %s", result)
	}
	if v := verdictOf(t, seen.gone(t, pod.Name, 90*time.Second)); v.Outcome != "clean" {
		t.Errorf("verdict %s: %s", v.Outcome, v.Reason)
	}
}

// Row 11: a pod is deleted while one of its containers is being restarted. Kubelet stops the pod only when our hold of that
// container has ended, so the hold is short.
func TestDeletedWhileAContainerRestarts(t *testing.T) {
	t.Parallel()
	const hold = 6 * time.Second
	w := load(t, "native", namespace(t, "restricted")).replicas(1).set("restart-max=" + hold.String())
	impatient(w)
	w.start(t)
	seen := watch(t, w.ns)
	pod := pods(t, w.ns, w.selector())[0]
	log := follow(t, w.ns, pod.Name, "drain-agent")
	answer := request(t, w.target(t), 12*time.Second)
	post(t, pod, 8090, "/toggle-health")
	eventually(t, time.Minute, "the app's hook is held", func() bool { return slices.Contains(acted(log.events(), "hold "), "app") })
	kubectl(t, "-n", w.ns, "delete", "pod", pod.Name, "--wait=false")
	deleted := time.Now() // or just before
	last := seen.gone(t, pod.Name, 90*time.Second)
	t.Logf("the request under way ended with %s", <-answer)
	events := log.events()
	began, ended := when(t, events, "hold app"), when(t, events, "answer app")
	t.Logf("held %v, %v of it after the deletion; hooks called %v, answered %v", ended.Sub(began), ended.Sub(deleted), acted(events, "hold "), answered(events))
	if !ended.After(deleted) {
		t.Error("the hold was over before the deletion: nothing was tried")
	}
	if ended.Sub(began) > hold+500*time.Millisecond {
		t.Errorf("the restarting container was held %v, want at most restart-max, %v", ended.Sub(began), hold)
	}
	if v := verdictOf(t, last); v.Outcome == "container_restart" {
		t.Errorf("the last verdict is that of the restart, not of the pod's stop: %s", v.Reason)
	}
}
