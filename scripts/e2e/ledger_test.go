//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Pods of a real kubelet stop, idle ones and ones with a request under way, while the controller is killed: each has one row in the ledger,
// and what it says is what the agent's own log says. STOPS says how many (ten); the controller dies once for every five.
func TestLedger(t *testing.T) {
	ownNode(t)
	count := 10
	if text := os.Getenv("STOPS"); text != "" {
		var err error
		if count, err = strconv.Atoi(text); err != nil || count < 1 {
			t.Fatalf("STOPS=%s: want the number of pods to stop", text)
		}
	}
	const own, batch = "e2e-drain-ledger", 5
	archive, helm := chart(t, own)
	claim(t, own)
	helm("install", "drain-controller", archive, "--set=replicas=1,ledger.store=sqlite,ledger.sqlite.claim=ledger,ledger.api=cluster", "--wait", "--timeout=5m")
	t.Cleanup(func() { helm("uninstall", "drain-controller", "--ignore-not-found") })
	ns := namespace(t, "restricted")
	kubectl(t, "label", "namespace", ns, "drain-agent.io/inject=enabled")
	w := parse(t, kubectl(t, "kustomize", "testdata/ordinary"), ns).replicas(batch).start(t)

	seen, logs := watch(t, ns), map[string]*follower{}
	for round := 0; len(logs) < count; round++ {
		var there []corev1.Pod
		eventually(t, 3*time.Minute, "all pods are new and ready", func() bool { // one that never ran has no row, and is forgotten
			there = pods(t, ns, w.selector())
			return len(there) == batch && !slices.ContainsFunc(there, func(p corev1.Pod) bool { return logs[p.Name] != nil || p.DeletionTimestamp != nil || !ready(p) })
		})
		for i, pod := range there {
			if !hasAgent(pod) { // made while the controller was away
				t.Logf("%s has no agent", pod.Name)
				kubectl(t, "-n", ns, "delete", "pod", pod.Name)
				continue
			}
			logs[pod.Name] = follow(t, ns, pod.Name, "drain-agent")
			if i == 0 {
				request(t, w.target(t), 3*time.Second)
			}
			kubectl(t, "-n", ns, "delete", "pod", pod.Name, "--wait=false")
		}
		killController(t, own, round)
		for name := range logs {
			seen.gone(t, name, 2*time.Minute)
		}
	}
	compareLedger(t, own, ns, logs)
}

// killController ends it without a word; every third time its pod too, for kubelet lets a container that ends again and again wait.
func killController(t *testing.T, ns string, round int) {
	t.Helper()
	const selector = "app.kubernetes.io/name=drain-controller"
	if round%3 == 2 {
		kubectl(t, "-n", ns, "delete", "pod", "-l", selector, "--force", "--grace-period=0")
		return
	}
	for _, pod := range pods(t, ns, selector) {
		if status(pod, "drain-controller").State.Running != nil {
			signal(t, pod, "drain-controller", syscall.SIGKILL)
		}
	}
}

// compareLedger sets the rows beside the logs.
func compareLedger(t *testing.T, own, ns string, logs map[string]*follower) {
	t.Helper()
	type row struct {
		Pod     string                     `json:"pod"`
		Outcome string                     `json:"outcome"`
		Verdict map[string]json.RawMessage `json:"verdict"`
	}
	var rows []row
	var text []byte
	var err error
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the ledger's last answer: %v %s; the controller's log:\n%s", err, text, kubectl(t, "-n", own, "logs", "deployment/drain-controller", "--tail=40"))
		}
	})
	eventually(t, 3*time.Minute, "each pod has a row", func() bool {
		var page struct{ Drains []row }
		text, err = try(t.Context(), nil, "get", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/services/drain-controller:api/proxy/api/v1/drains?namespace=%s&limit=1000", own, ns))
		if err != nil || json.Unmarshal(text, &page) != nil {
			return false // it is just being started
		}
		rows = page.Drains
		return len(rows) >= len(logs)
	})
	unknown, left := 0, len(logs)
	for _, r := range rows {
		log, ours := logs[r.Pod]
		if !ours {
			t.Errorf("a row of a pod that did not stop, or a second one: %s", r.Pod)
			continue
		}
		delete(logs, r.Pod)
		if r.Outcome == "unknown" {
			unknown++
			if len(r.Verdict) > 0 {
				t.Errorf("%s is unknown and says %s", r.Pod, r.Verdict)
			}
			continue
		}
		<-log.done
		said := lastVerdictLine(log.String())
		if len(r.Verdict) < 10 {
			t.Errorf("%s: %s", r.Pod, r.Verdict)
		}
		for key, value := range r.Verdict {
			if string(said[key]) != string(value) {
				t.Errorf("%s: %s is %s in the ledger, %s in the log", r.Pod, key, value, said[key])
			}
		}
	}
	t.Logf("%d stops: %d verdicts, each as logged, %d unknown", left, left-unknown, unknown)
	if len(logs) > 0 || 2*unknown > left { // kubelet lets a controller that died twice wait for ten seconds, in which pods come to their end
		t.Errorf("%d pods have no row, %d rows are unknown", len(logs), unknown)
	}
}

// lastVerdictLine reads a log with kubelet's time before each line.
func lastVerdictLine(log string) (fields map[string]json.RawMessage) {
	for line := range strings.Lines(log) {
		if _, text, _ := strings.Cut(line, " "); strings.Contains(text, `"msg":"verdict"`) {
			fields = nil
			_ = json.Unmarshal([]byte(text), &fields) // empty: nothing is equal
		}
	}
	return fields
}

// claim gives the controller a volume that outlives its pods.
func claim(t *testing.T, ns string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "e2e-ledger-") //nolint:usetesting // the kubelet's too
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil { //nolint:gosec // the controller is not root
		t.Fatal(err)
	}
	size := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("100Mi")}
	volume := &corev1.PersistentVolume{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolume"}, ObjectMeta: metav1.ObjectMeta{Name: ns},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: size, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, ClaimRef: &corev1.ObjectReference{Namespace: ns, Name: "ledger"},
			PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: dir}},
		},
	}
	wanted := &corev1.PersistentVolumeClaim{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"}, ObjectMeta: metav1.ObjectMeta{Name: "ledger", Namespace: ns},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, VolumeName: ns, StorageClassName: new(""),
			Resources: corev1.VolumeResourceRequirements{Requests: size},
		},
	}
	apply(t, ns, volume, wanted)
	t.Cleanup(func() { feed(t, nil, "delete", "persistentvolume", ns, "--ignore-not-found", "--wait=false") })
}
