package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/drain-agent/drain-agent/scripts/synced"
)

// lastWords stops a real agent in timer mode whose grace period is too short for the three requests that its app has in flight, and
// returns its termination message.
func lastWords(t *testing.T) string {
	t.Helper()
	dir, address := t.TempDir(), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	program, count, message := filepath.Join(dir, "drain-agent"), filepath.Join(dir, "in-flight"), filepath.Join(dir, "message")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../../agent").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, file := range []string{count, message} {
		if err := os.WriteFile(file, []byte("3\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var log synced.Buffer
	agent := exec.CommandContext(t.Context(), program, "run", "--listen="+address, "--control="+filepath.Join(dir, "control.sock"), "--hooks=app,agent", "--stop-order=app",
		"--envoy-admin=", "--grace-period=3s", "--app-source=file:"+count, "--termination-log="+message)
	agent.Stdout, agent.Stderr = &log, &log
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the agent lives", func() error { return readyAt("http://" + address + "/livez") })
	var hooks sync.WaitGroup
	for _, name := range []string{"app", "agent"} {
		hooks.Go(func() { _ = readyAt("http://" + address + "/prestop/" + name) }) // what came of it is in the message
	}
	hooks.Wait()
	_ = agent.Process.Signal(syscall.SIGTERM) // it may have ended
	_ = agent.Wait()                          // with the exit code of a deadline
	text, err := os.ReadFile(message)
	if err != nil || !bytes.Contains(text, []byte(`"outcome":"deadline"`)) {
		t.Fatalf("message %q, %v\n%s", text, err, &log)
	}
	return string(text)
}

// prometheus runs the real one on a controller's metrics, with the chart's rules, and returns its address.
func prometheus(t *testing.T, metrics string) string {
	t.Helper()
	program, err := exec.LookPath("prometheus")
	if err != nil {
		t.Fatalf("%v: apt-get install prometheus", err)
	}
	rules, err := filepath.Abs("../chart/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir, address := t.TempDir(), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	file := filepath.Join(dir, "prometheus.yaml")
	text := fmt.Sprintf("global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}\nrule_files: [%q]\nscrape_configs:\n- {job_name: drain-controller, static_configs: [{targets: [%q]}]}\n", rules, metrics)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var log synced.Buffer
	process := exec.CommandContext(t.Context(), program, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address, "--log.level=warn")
	process.Stdout, process.Stderr = &log, &log
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = process.Process.Kill() // its data are nobody's
		_ = process.Wait()
		if t.Failed() {
			t.Logf("prometheus:\n%s", &log)
		}
	})
	eventually(t, "Prometheus is ready", func() error { return readyAt("http://" + address + "/-/ready") })
	return "http://" + address
}

func readyAt(url string) error {
	response, err := http.Get(url) //nolint:gosec // our own
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", response.Status)
	}
	return nil
}

// firing are the alerts that a Prometheus fires of a namespace: name and outcome.
func firing(t *testing.T, prometheus, namespace string) map[string]bool {
	t.Helper()
	var answer struct {
		Data struct {
			Alerts []struct {
				State  string
				Labels map[string]string
			}
		}
	}
	if err := json.Unmarshal([]byte(fetch(t, prometheus+"/api/v1/alerts")), &answer); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, a := range answer.Data.Alerts {
		if a.State == "firing" && a.Labels["namespace"] == namespace && a.Labels["workload"] == "web" {
			names[strings.TrimSpace(a.Labels["alertname"]+" "+a.Labels["outcome"])] = true
		}
	}
	return names
}

// A rollout that loses requests, of agents in timer mode whose grace period is too short, is on the page, in the metrics that a real
// Prometheus scrapes, in an Event with its sum, and fires the chart's alert.
func TestLosingRolloutIsSeen(t *testing.T) {
	s, words := apiServer(t), lastWords(t)
	ns := s.namespace(t, nil, nil)
	api, metrics := fmt.Sprintf("127.0.0.1:%d", freePort(t)), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	s.controller(t, "--api="+api, "--metrics="+metrics, "--unknown-after=1s")
	watches(t, metrics)
	scraper := prometheus(t, metrics)
	pods := s.run(t, ns, s.workload(t, ns), 4)
	asks := scraper + "/api/v1/query?query=" + fmt.Sprintf(`drain_controller_stops_total%%7Bnamespace=%q,outcome=%q%%7D`, ns, "deadline")
	scraped := func(n int) func() error {
		return func() error {
			if text := fetch(t, asks); !strings.Contains(text, fmt.Sprintf(`,"%d"]`, n)) {
				return fmt.Errorf("want %d: %s", n, text)
			}
			return nil
		}
	}
	eventually(t, "a workload that has not stopped yet is scraped", scraped(0))
	if names := firing(t, scraper, ns); len(names) > 0 {
		t.Errorf("alerts before anything has stopped: %v", names)
	}
	next := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "web-7c9f-", Namespace: ns, Labels: map[string]string{"pod-template-hash": "7c9f"}, OwnerReferences: pods[0].OwnerReferences},
		Spec:       corev1.PodSpec{NodeName: "node-7", Containers: pods[0].Spec.Containers},
	}
	if err := s.client.Create(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	s.status(t, next, corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}})
	for _, p := range pods {
		p.message = words
		s.stop(t, p, func() {})
	}
	eventually(t, "the stops are scraped", scraped(4))
	eventually(t, "the alerts fire", func() error {
		if names := firing(t, scraper, ns); !names["StopsNotClean deadline"] || !names["StopsBurnObjectiveFast"] || names["StopsWithoutVerdict"] {
			return fmt.Errorf("%v", names)
		}
		return nil
	})
	eventually(t, "an Event tells the rollout's sum", func() error {
		var events corev1.EventList
		if err := s.client.List(t.Context(), &events, client.InNamespace(ns)); err != nil {
			return err
		}
		for _, e := range events.Items {
			if e.Reason == "RolloutNotClean" && e.InvolvedObject.Kind == "Deployment" && strings.Contains(e.Message, "4 pods of revision 5d4f8 have stopped: 4 deadline") && strings.Contains(e.Message, "12 requests were cut off") {
				return nil
			}
		}
		return errNotYet
	})
	if page := fetch(t, "http://"+api+"/?namespace="+ns); !strings.Contains(page, `<span class="bad">4 deadline</span>`) || !strings.Contains(page, `<dt>requests cut</dt><dd class="bad">12`) {
		t.Errorf("the page does not show it:\n%s", page)
	}
}
