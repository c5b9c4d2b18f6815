//go:build e2e

package e2e

import (
	"slices"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/scripts/load/openloop"
)

// Istio's control plane is away while a pod stops: what is drained needs only its own Envoy.
func TestIstiodAway(t *testing.T) {
	onlyMesh(t)
	w, load := underMeshLoad(t)
	seen := watch(t, w.ns)
	istiod := func(replicas string) {
		kubectl(t, "-n", "istio-system", "scale", "deployment/istiod", "--replicas="+replicas)
		kubectl(t, "-n", "istio-system", "rollout", "status", "deployment/istiod", "--timeout=120s")
	}
	t.Cleanup(func() { istiod("1") })
	istiod("0")
	pod := running(t, w)[0]
	kubectl(t, "-n", w.ns, "delete", "pod", pod, "--wait=false")
	stoppedCleanly(t, "without istiod", seen.gone(t, pod, 90*time.Second))
	istiod("1")
	w.rolledOut(t)
	lostNothing(t, rollout{load: load.Stop()})
	hooksHeld(t, w.ns)
}

// Istio's control plane is replaced in the middle of a rollout.
func TestIstiodRestartsInMidRollout(t *testing.T) {
	onlyMesh(t)
	w, load := underMeshLoad(t)
	seen := watch(t, w.ns)
	old := running(t, w)
	kubectl(t, "-n", w.ns, "rollout", "restart", "deployment/"+w.deployment.Name)
	eventually(t, time.Minute, "the first pod is on its way out", func() bool {
		return !slices.Equal(old, slices.DeleteFunc(running(t, w), func(pod string) bool { return !slices.Contains(old, pod) }))
	})
	kubectl(t, "-n", "istio-system", "rollout", "restart", "deployment/istiod")
	w.rolledOut(t)
	w.terminated(t)
	lostNothing(t, rollout{load: load.Stop()})
	for _, pod := range old {
		stoppedCleanly(t, pod, seen.gone(t, pod, time.Second))
	}
	hooksHeld(t, w.ns)
}

// underMeshLoad starts istio/sidecar.yaml and a load that stands in front of it.
func underMeshLoad(t *testing.T) (*workload, *openloop.Generator) {
	t.Helper()
	w := meshed(t, meshService(t), meshFile(t, "istio/sidecar.yaml")).start(t)
	plan := mix(w.target(t))
	throughTLS(t)(&plan)
	load, err := openloop.Start(t.Context(), plan)
	if err != nil {
		t.Fatal(err)
	}
	settle(t, load, plan)
	return w, load
}
