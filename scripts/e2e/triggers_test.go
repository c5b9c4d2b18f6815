//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Row 5: whoever stops a pod, there is a clean verdict with its trigger in the pod's last status, and nothing is lost.
func TestEveryWayToStopAPod(t *testing.T) {
	t.Parallel()
	w := load(t, "native", namespace(t, "restricted")).start(t)
	seen := watch(t, w.ns)
	load := begin(t, w, 20)
	deployment := "deployment/" + w.deployment.Name
	told := map[string]bool{} // pods whose verdict was read
	for _, way := range []struct {
		name string
		stop func(pod string)
	}{
		{"delete", func(pod string) { kubectl(t, "-n", w.ns, "delete", "pod", pod, "--wait=false") }},
		{"evict", func(pod string) { evict(t, w.ns, pod) }},
		{"scale down", func(string) { kubectl(t, "-n", w.ns, "scale", deployment, "--replicas=1") }},
		{"scale up again", func(string) { kubectl(t, "-n", w.ns, "scale", deployment, "--replicas=2") }},
		{"undo in mid-rollout", func(string) { undo(t, w) }},
	} {
		before := running(t, w)
		way.stop(before[0])
		w.rolledOut(t)
		w.terminated(t)
		now, stopped := running(t, w), 0
		for _, pod := range seen.names() {
			if slices.Contains(now, pod) || told[pod] || !served(seen.of(pod)) {
				continue
			}
			told[pod] = true
			stopped++
			stoppedCleanly(t, way.name, seen.gone(t, pod, time.Minute))
		}
		if stopped == 0 && way.name != "scale up again" {
			t.Errorf("%s: no pod stopped", way.name)
		}
	}
	lostNothing(t, rollout{load: load.Stop()})
}

// stoppedCleanly reads the verdict of a pod stop: clean, and begun by kubelet's calls.
func stoppedCleanly(t *testing.T, how string, pod corev1.Pod) {
	t.Helper()
	v := verdictOf(t, pod)
	t.Logf("%s: %s in %d ms, trigger %s", how, v.Outcome, v.TotalMS, v.Trigger)
	if v.Outcome != "clean" || !strings.Contains(v.Trigger, "hook ") {
		t.Errorf("%s: verdict %s (%s), trigger %q", how, v.Outcome, v.Reason, v.Trigger)
	}
}

// served tells a pod that got traffic from one that was stopped while it started, when nothing has to be drained.
func served(states []podState) bool {
	return slices.ContainsFunc(states, func(s podState) bool { return ready(s.pod) })
}

// running lists the pods that are not on their way out.
func running(t *testing.T, w *workload) []string {
	t.Helper()
	var names []string
	for _, pod := range pods(t, w.ns, w.selector()) {
		if pod.DeletionTimestamp == nil {
			names = append(names, pod.Name)
		}
	}
	return names
}

// evict uses the eviction API, which heeds the PodDisruptionBudget: a second one at once is refused.
func evict(t *testing.T, ns, pod string) {
	t.Helper()
	request := func(name string) error {
		body := fmt.Sprintf(`{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":%q,"namespace":%q}}`, name, ns)
		_, err := try(t.Context(), []byte(body), "create", "--raw", "/api/v1/namespaces/"+ns+"/pods/"+name+"/eviction", "-f", "-")
		return err
	}
	if err := request(pod); err != nil {
		t.Fatal(err)
	}
	for _, other := range pods(t, ns, "") {
		if other.Name != pod && other.DeletionTimestamp == nil && ready(other) {
			if err := request(other.Name); err == nil || !strings.Contains(err.Error(), "disruption budget") {
				t.Errorf("second eviction at once: %v, want it refused by the disruption budget", err)
			}
			return
		}
	}
	t.Error("no second pod to be refused an eviction")
}

// undo takes a rollout back as soon as the first pod of the new revision exists.
func undo(t *testing.T, w *workload) {
	t.Helper()
	old := running(t, w)
	deployment := "deployment/" + w.deployment.Name
	kubectl(t, "-n", w.ns, "set", "env", deployment, "-c", "app", "REVISION=next")
	eventually(t, time.Minute, "a pod of the new revision is ready", func() bool {
		return slices.ContainsFunc(pods(t, w.ns, w.selector()), func(p corev1.Pod) bool { return ready(p) && !slices.Contains(old, p.Name) })
	})
	kubectl(t, "-n", w.ns, "rollout", "undo", deployment)
}

// Row 5, kubectl drain: its own test, because the cordoned node takes no other test's pods meanwhile.
func TestNodeDrain(t *testing.T) {
	w := load(t, "native", namespace(t, "restricted")).replicas(1).start(t)
	seen := watch(t, w.ns)
	pod := pods(t, w.ns, w.selector())[0]
	t.Cleanup(func() { kubectl(t, "uncordon", pod.Spec.NodeName) })
	kubectl(t, "drain", pod.Spec.NodeName, "--pod-selector="+w.selector(), "--delete-emptydir-data", "--ignore-daemonsets", "--timeout=90s")
	stoppedCleanly(t, "kubectl drain", seen.gone(t, pod.Name, time.Minute))
}
