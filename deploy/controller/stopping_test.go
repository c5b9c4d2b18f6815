package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/drain-agent/drain-agent/agent/timeline"
	"github.com/drain-agent/drain-agent/deploy/controller/internal/ledger"
)

// workload makes a Deployment with its ReplicaSet, as their controllers would, and returns what owns the pods.
func (s *server) workload(t *testing.T, namespace string) metav1.OwnerReference {
	t.Helper()
	labels := map[string]string{"app": "web"}
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "a:1"}}}}
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "web"},
		Spec:       appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template},
	}
	if err := s.client.Create(t.Context(), deployment); err != nil {
		t.Fatal(err)
	}
	set := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "web-5d4f8", OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(deployment, appsv1.SchemeGroupVersion.WithKind("Deployment"))}},
		Spec:       appsv1.ReplicaSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template},
	}
	if err := s.client.Create(t.Context(), set); err != nil {
		t.Fatal(err)
	}
	return *metav1.NewControllerRef(set, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))
}

// A stopping pod of the test, and what its agent says at the end; "": it is killed before it can.
type stopping struct {
	*corev1.Pod
	message string
	line    string // of its log
}

// startedPod is a pod of a workload with an agent, on a node.
func startedPod(namespace string, owner metav1.OwnerReference) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "web-5d4f8-", Namespace: namespace, Labels: map[string]string{"pod-template-hash": "5d4f8"}, OwnerReferences: []metav1.OwnerReference{owner}},
		Spec: corev1.PodSpec{NodeName: "node-7", Containers: []corev1.Container{
			{Name: "app", Image: "a:1"}, {Name: "drain-agent", Image: agentImage, Args: []string{"run", "--hooks=app,proxy,agent"}},
		}},
	}
}

// A kept ledger stands in a file; controllers may end and begin again.
type kept struct {
	ledger.Store        // to look into it
	api, metrics string // of the controller that runs
	begin        func() *running
}

func (s *server) sqlite(t *testing.T) *kept {
	t.Helper()
	name := "sqlite:" + filepath.Join(t.TempDir(), "ledger.db")
	k := &kept{api: fmt.Sprintf("127.0.0.1:%d", freePort(t)), metrics: fmt.Sprintf("127.0.0.1:%d", freePort(t))}
	k.begin = func() *running {
		r := s.controller(t, "--store="+name, "--api="+k.api, "--metrics="+k.metrics, "--unknown-after=2s")
		watches(t, k.metrics)
		return r
	}
	var err error
	if k.Store, err = ledger.Open(t.Context(), name, ledger.Limits{Age: time.Hour, Rows: 2000, Workloads: 10}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

// run makes pods on a node as if kubelet had started them. Every fifth has twelve containers and an agent of the first edition, whose
// message kubelet cuts; every fifth is killed without a word.
func (s *server) run(t *testing.T, namespace string, owner metav1.OwnerReference, n int) (pods []*stopping) {
	t.Helper()
	for i := range n {
		pod := startedPod(namespace, owner)
		v := timeline.Verdict{
			Time: time.Now(), Level: "info", Outcome: "clean", TotalMS: int64(1000 * (i + 1)), Phases: map[string]int64{"draining": 700}, Reason: "zero held",
			ArrivalsAfterRelease: new(int64(0)), Trigger: "hook app, hook proxy", HeldLongest: "app",
		}
		one := &stopping{Pod: pod}
		v.InFlightCurve, v.ArrivalsCurve, v.RequestsPerSecond = [][2]int64{{0, 3}, {700, 0}}, [][4]int64{{0, 0, 0, 5}, {700, 4, 1, 2}}, new(6.5)
		switch i % 5 {
		case 1:
			v.Outcome, v.Cut, v.Reason = "deadline", map[string]int64{"proxy requests": 3}, "the budget is over"
			one.message = v.Termination(1024)
		case 2:
			v.ArrivalsCurve, v.RequestsPerSecond = nil, nil
			for extra := range 10 {
				pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: fmt.Sprint("more-", extra), Image: "a:1"})
			}
			for ms := range int64(120) {
				v.InFlightCurve = append(v.InFlightCurve, [2]int64{ms * 100, ms % 9})
			}
			text, err := v.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			one.message = string(text[:12*1024/12])
		case 3:
		default:
			one.message = v.Termination(1024)
		}
		line, err := v.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		one.line = string(line)
		if err := s.client.Create(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
		s.status(t, pod, corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}})
		pods = append(pods, one)
	}
	return pods
}

func (s *server) status(t *testing.T, pod *corev1.Pod, state corev1.ContainerState) {
	t.Helper()
	pod.Status.Phase = corev1.PodRunning
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "drain-agent", Image: agentImage, State: state}}
	if err := s.client.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
}

// stop does what kubectl delete and kubelet do; between is called between any two steps.
func (s *server) stop(t *testing.T, p *stopping, between func()) {
	t.Helper()
	if err := s.client.Delete(t.Context(), p.Pod); err != nil {
		t.Fatal(err)
	}
	between()
	if p.message != "" {
		if err := s.client.Get(t.Context(), client.ObjectKeyFromObject(p.Pod), p.Pod); err != nil {
			t.Fatal(err)
		}
		s.status(t, p.Pod, corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: p.message, FinishedAt: metav1.Now()}})
		between()
	}
	if err := s.client.Delete(t.Context(), p.Pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	between()
}

// A reply of /api/v1/drains.
type drains struct {
	Drains []struct {
		ledger.Stop
		Verdict map[string]json.RawMessage `json:"verdict"`
	} `json:"drains"`
	Next string `json:"next"`
}

func fetch(t testing.TB, url string) string {
	t.Helper()
	text, err := get(url)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func get(url string) (string, error) {
	response, err := http.Get(url) //nolint:gosec // our own
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s %s", url, response.Status, text)
	}
	return string(text), err
}

// all rows of a namespace, page by page.
func all(t *testing.T, api, namespace string) (rows drains) {
	t.Helper()
	for after := ""; ; {
		var page drains
		if err := json.Unmarshal([]byte(fetch(t, fmt.Sprintf("http://%s/api/v1/drains?namespace=%s&limit=7&after=%s", api, namespace, after))), &page); err != nil {
			t.Fatal(err)
		}
		rows.Drains = append(rows.Drains, page.Drains...)
		if after = page.Next; after == "" {
			return rows
		}
	}
}

// remembered waits until a store knows as many living pods.
func remembered(t *testing.T, store ledger.Store, namespace string, want int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d pods are remembered", want), func() error {
		live, err := store.Pods(t.Context())
		n := 0
		for _, p := range live {
			if p.Namespace == namespace && p.Ran {
				n++
			}
		}
		if err != nil || n != want {
			return fmt.Errorf("%d, %w", n, err)
		}
		return nil
	})
}

// watches waits until a controller has listed all pods: it sees all that happens from then on.
func watches(t *testing.T, metrics string) {
	t.Helper()
	eventually(t, "pods are watched", func() error {
		text, err := get("http://" + metrics + "/metrics") // its server may start after the webhooks'
		if err == nil && !strings.Contains(text, "\ndrain_controller_pods_watched ") {
			err = errNotYet
		}
		return err
	})
}

// rowsOf returns the pods that have a row.
func rowsOf(t *testing.T, store ledger.Store, namespace string) map[string]bool {
	t.Helper()
	page, err := store.Drains(t.Context(), ledger.Query{Namespace: namespace, Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, raw := range page.Items {
		var row ledger.Stop
		if err := json.Unmarshal(raw, &row); err != nil {
			t.Fatal(err)
		}
		have[row.UID] = true
	}
	return have
}

// compare sets the rows beside what the agents said.
func compare(t *testing.T, rows drains, pods []*stopping, seen func(*stopping) bool) (verdicts, unknowns int) {
	t.Helper()
	byUID := map[string]*stopping{}
	for _, p := range pods {
		byUID[string(p.UID)] = p
	}
	for _, row := range rows.Drains {
		p := byUID[row.UID]
		delete(byUID, row.UID)
		switch {
		case p == nil:
			t.Errorf("a second row, or of no pod: %+v", row.Stop)
			continue
		case row.Outcome == "unknown":
			unknowns++
			if p.message != "" && seen(p) || len(row.Verdict) > 0 || row.TotalMS != nil || row.Cut != nil {
				t.Errorf("%s is unknown: %+v", p.Name, row)
			}
		default:
			verdicts++
			if p.message == "" || row.Whole != strings.HasSuffix(p.message, "}") {
				t.Errorf("%s: %+v, said %q", p.Name, row.Stop, p.message)
			}
			asLogged(t, p, row.Verdict, row.Whole)
		}
		if row.Node != "node-7" || row.Workload.Kind != "Deployment" || row.Workload.Name != "web" || row.Revision != "5d4f8" || row.Phase != "Running" {
			t.Errorf("%s: %+v", p.Name, row.Stop)
		}
	}
	for _, p := range byUID {
		t.Errorf("%s has no row", p.Name)
	}
	return verdicts, unknowns
}
