//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// pageImages makes the images of the how-tos, once.
var pageImages = sync.OnceValue(func() error {
	out, err := exec.CommandContext(context.Background(), "../noproxy/image").CombinedOutput()
	if err != nil {
		return fmt.Errorf("scripts/noproxy/image: %w: %s", err, out)
	}
	return nil
})

// pageWorkload is the first manifest of a how-to, with the edits old, new, old, new, as drainctl inject writes it without a question.
func pageWorkload(t *testing.T, page, ns string, edits ...string) *workload {
	t.Helper()
	if err := pageImages(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../docs/how-to/" + page)
	if err != nil {
		t.Fatal(err)
	}
	block := yamlBlock.FindSubmatch(text)
	if block == nil {
		t.Fatalf("%s has no manifest", page)
	}
	cmd := exec.CommandContext(t.Context(), "go", "run", "../../deploy/drainctl", "inject", "-f", "-")
	cmd.Stdin = strings.NewReader(strings.NewReplacer(edits...).Replace(string(block[1])))
	var said bytes.Buffer
	cmd.Stderr = &said
	injected, err := cmd.Output()
	t.Logf("drainctl inject: %s", &said)
	if err != nil {
		t.Fatal(err)
	}
	w := parse(t, injected, ns)
	w.proxy = "drain-agent" // there is no other
	return w
}

// serviceOn is a Service for the pods of a Deployment, on a NodePort.
func (w *workload) serviceOn(port int32) *workload {
	w.service = &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Name: w.deployment.Name, Namespace: w.ns},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, Selector: w.deployment.Spec.Selector.MatchLabels,
			Ports: []corev1.ServicePort{{Name: "main", Port: port, TargetPort: intstr.FromInt32(port)}},
		},
	}
	return w
}

// A model server without a proxy, FastAPI on uvicorn, is rolled while it streams tokens: every stream comes to its end, what never ends
// by itself is ended by the drain URL, each verdict is clean. Idle pods wait for no cap. In the long form streams take up to two minutes.
func TestTokenStreamsWithoutProxy(t *testing.T) {
	t.Parallel()
	ownNode(t) // the images are made of this machine's Python
	w := pageWorkload(t, "inference.md", namespace(t, "baseline")).start(t)
	seen := watch(t, w.ns)
	lengths := []int{5, 15, 30}
	if *long {
		lengths = []int{5, 30, 60, 120}
	}
	var streams tokenStreams
	for _, pod := range pods(t, w.ns, w.selector()) { // each by its own address, which every pod of the node sees
		target := "http://" + pod.Status.PodIP + ":8000/v1/"
		for _, seconds := range lengths {
			streams.open(t, fmt.Sprintf("%scompletions?seconds=%d", target, seconds))
		}
		streams.open(t, target+"events")
	}
	streams.all.begun.Wait()
	kubectl(t, "-n", w.ns, "rollout", "restart", "deployment/"+w.deployment.Name)
	streams.all.ended.Wait()
	if n := len(streams.cut); n > 0 {
		t.Errorf("%d streams were cut: %s", n, strings.Join(streams.cut, "; "))
	}
	w.rolledOut(t)
	w.terminated(t)
	idleFrom := w.clean(t, seen, 2, nil)
	kubectl(t, "-n", w.ns, "rollout", "restart", "deployment/"+w.deployment.Name)
	w.rolledOut(t)
	w.terminated(t)
	w.clean(t, seen, 4, idleFrom)
	if !*long {
		return
	}
	for _, seconds := range []int64{0, 15} { // beside what people run today: kubelet alone needs a second for an idle pod
		w.withoutAgent()
		if seconds > 0 {
			w.sleeping(seconds)
		}
		w.start(t)
		w.terminated(t)
		before := seen.stopped()
		kubectl(t, "-n", w.ns, "rollout", "restart", "deployment/"+w.deployment.Name)
		w.rolledOut(t)
		w.terminated(t)
		for _, pod := range seen.stopped() {
			if !slices.Contains(before, pod) {
				t.Logf("%s, sleep %d: gone %.1f s after its deletion", pod, seconds, seen.took(pod).Seconds())
			}
		}
	}
}

// clean checks that so many pods have stopped by now, each cleanly, and those that are not known yet without waiting for a cap.
func (w *workload) clean(t *testing.T, seen *watcher, pods int, known map[string]bool) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	stopped := func() []string {
		return slices.DeleteFunc(seen.stopped(), func(pod string) bool { return !strings.HasPrefix(pod, w.deployment.Name+"-") })
	}
	eventually(t, time.Minute, fmt.Sprintf("%d pods have stopped", pods), func() bool { return len(stopped()) >= pods })
	for _, pod := range stopped() {
		all[pod] = true
		if known[pod] {
			continue
		}
		v := verdictOf(t, seen.gone(t, pod, time.Second))
		t.Logf("%s: %s in %d ms, gone %.1f s after its deletion", pod, v.Outcome, v.TotalMS, seen.took(pod).Seconds())
		if v.Outcome != "clean" || len(v.Cut) > 0 || known != nil && strings.Contains(v.Reason, "quiet-max") {
			t.Errorf("%s: verdict %s (%s), cut %v", pod, v.Outcome, v.Reason, v.Cut)
		}
	}
	return all
}

// tokenStreams are clients that read until the server says that it is done.
type tokenStreams struct {
	mu  sync.Mutex
	cut []string
	all struct{ begun, ended sync.WaitGroup }
}

func (s *tokenStreams) open(t *testing.T, url string) {
	t.Helper()
	ctx, stop := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Minute)
	t.Cleanup(stop)
	began := sync.OnceFunc(s.all.begun.Done)
	s.all.begun.Add(1)
	s.all.ended.Go(func() {
		defer began()
		if err := readTokens(ctx, url, began); err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.cut = append(s.cut, url+": "+err.Error())
		}
	})
}

func readTokens(ctx context.Context, url string, began func()) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		began()
		if lines.Text() == "data: [DONE]" {
			return nil
		}
	}
	return fmt.Errorf("cut off: %v", lines.Err())
}

// Celery workers on a real Redis are rolled in mid-job: every job that began ends, each verdict is clean.
func TestQueueWorkerWithoutProxy(t *testing.T) {
	t.Parallel()
	ownNode(t)
	ns := namespace(t, "baseline")
	if err := pageImages(); err != nil {
		t.Fatal(err)
	}
	redis := redis(t, ns).serviceOn(6379).start(t)
	var service corev1.Service
	if err := json.Unmarshal(kubectl(t, "-n", ns, "get", "service", redis.service.Name, "-o", "json"), &service); err != nil {
		t.Fatal(err)
	}
	w := pageWorkload(t, "workers.md", ns, "registry.example/shop:1", "registry.example/model:1", "/run/broker/redis.sock", "redis://"+service.Spec.ClusterIP+":6379/0").start(t)
	seen := watch(t, ns)
	count := func(list string) (n int) {
		out := kubectl(t, "-n", ns, "exec", "deployment/"+redis.deployment.Name, "--", "redis-cli", "LLEN", list)
		if _, err := fmt.Sscan(string(out), &n); err != nil {
			t.Fatalf("LLEN %s: %v: %s", list, err, out)
		}
		return n
	}
	const jobs = 12
	w.fill(t, jobs, 8)
	eventually(t, time.Minute, "both workers work", func() bool { return count("began") >= 4 })
	kubectl(t, "-n", ns, "rollout", "restart", "deployment/"+w.deployment.Name)
	w.rolledOut(t)
	w.terminated(t)
	w.clean(t, seen, 2, nil)
	eventually(t, 2*time.Minute, "all jobs began, and none is under way", func() bool { return count("began") == jobs && count("ended") == jobs })
}

// fill puts jobs into the queue of a worker, from a pod of its own.
func (w *workload) fill(t *testing.T, jobs, seconds int) {
	t.Helper()
	worker := w.container("worker")
	pod := corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: "fill", Namespace: w.ns},
		Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{
			Name: "fill", Image: worker.Image, Env: worker.Env, Command: []string{"fill", "celery", fmt.Sprint(jobs), fmt.Sprint(seconds)},
		}}},
	}
	apply(t, w.ns, &pod)
	kubectl(t, "-n", w.ns, "wait", "pod/fill", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")
}

// redis is a broker for one test.
func redis(t *testing.T, ns string) *workload {
	t.Helper()
	return parse(t, []byte(`apiVersion: apps/v1
kind: Deployment
metadata: {name: broker}
spec:
  selector: {matchLabels: {app: broker}}
  template:
    metadata: {labels: {app: broker}}
    spec:
      containers:
      - name: redis
        image: registry.example/redis:1
        args: [--protected-mode, "no", --save, "", --dir, /tmp]
        readinessProbe: {tcpSocket: {port: 6379}, periodSeconds: 1}
`), ns)
}
