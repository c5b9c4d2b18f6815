package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/drain-agent/drain-agent/scripts/cgroup"
)

// room is all the memory that the controller gets while it is measured: what a container with this limit has, the pages of its program
// and of what it reads, and the kernel's own for it.
const room = 64 << 20

// BenchmarkPods is what a pod costs its maker, with and without the webhook, and the webhook's answer alone, when 50 are made a second on an
// API server that has 2,000 with an agent already, and what the controller took of its memory, which was started when they were there: it
// lists them all. The controller is the program as its image has it, with the flags and variables of the chart's defaults, in a cgroup of
// 64 MiB that no other process reads its pages for. make bench runs it; alone:
//
//	go test -run '^$' -bench '^BenchmarkPods$' -benchtime 1500x ./deploy/controller
func BenchmarkPods(b *testing.B) {
	s := apiServer(b)
	s.program = filepath.Join(b.TempDir(), "drain-controller")
	if out, err := exec.CommandContext(b.Context(), "go", "build", "-tags=grpcnotrace", "-ldflags=-s", "-o", s.program, ".").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	defer func() { s.program = "" }()
	run := s.controller(b)
	full := s.namespace(b, labelled, nil)
	for range 2000 {
		if pod := s.create(b, full, envoyPod, usual); agentOf(pod) == nil {
			b.Fatal("a pod got no agent")
		}
	}
	run.stop()
	s.confine(b)
	b.Setenv("MEMORY_LIMIT", strconv.Itoa(room)) // as kubelet would
	run = s.controller(b, chartContainer(b).Args...)
	for _, row := range []struct {
		what   string
		labels map[string]string
	}{{"with", labelled}, {"without", nil}} {
		b.Run(row.what, func(b *testing.B) {
			namespace := s.namespace(b, row.labels, nil)
			measure(b, func() { s.create(b, namespace, envoyPod) })
		})
	}
	b.Run("answer", func(b *testing.B) {
		ask := asker(b, run.port, s.namespace(b, labelled, nil))
		measure(b, ask)
		took(b, s.group, run)
	})
}

// confine has the next controller start in a cgroup, with none of its program in memory.
func (s *server) confine(b *testing.B) {
	b.Helper()
	group, err := cgroup.NewGroup(room, "controller")
	if err != nil {
		b.Skipf("needs a cgroup with a limit of memory, which root may make where the memory controller is on: %v", err)
	}
	file, err := os.Open(s.program)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	if err := errors.Join(file.Sync(), unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED)); err != nil {
		b.Fatal(err)
	}
	s.group = group
	b.Cleanup(func() {
		s.group = nil
		if err := group.Remove(); err != nil { // the controller has ended: its own cleanup came first
			b.Error(err)
		}
	})
}

// took reports what the controller took of its memory, and fails when the kernel had to kill it.
func took(b *testing.B, group *cgroup.Group, run *running) {
	b.Helper()
	used, err := group.Used()
	if err != nil {
		b.Fatal(err)
	}
	if used.Kills > 0 || run.ended() {
		b.Fatalf("the controller ran out of its %d bytes: %+v", room, used)
	}
	pid := run.process.Process.Pid
	b.ReportMetric(float64(used.WorkingSet)/(1<<20), "MiB/working-set")
	b.ReportMetric(float64(used.Peak)/(1<<20), "MiB/peak")
	b.ReportMetric(mebibytes(b, status(b, pid, "RssAnon")), "MiB/anonymous")
	b.ReportMetric(mebibytes(b, status(b, pid, "RssFile")), "MiB/file")
}

// measure calls 50 times a second.
func measure(b *testing.B, call func()) {
	b.Helper()
	took := make([]time.Duration, 0, b.N)
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	for b.Loop() {
		<-pace.C
		begin := time.Now()
		call()
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	for share, name := range map[int]string{50: "ms/p50", 99: "ms/p99"} {
		b.ReportMetric(float64(took[len(took)*share/100].Microseconds())/1000, name)
	}
}

// asker asks the webhook as the API server does, on one connection, and nothing else has to be done for the answer.
func asker(b *testing.B, port int, namespace string) func() {
	b.Helper()
	pod := &corev1.Pod{}
	if err := yaml.Unmarshal([]byte(envoyPod), pod); err != nil {
		b.Fatal(err)
	}
	pod.APIVersion, pod.Kind = "v1", "Pod"
	raw, err := json.Marshal(pod)
	if err != nil {
		b.Fatal(err)
	}
	review := admissionv1.AdmissionReview{TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: &admissionv1.AdmissionRequest{
		UID: "1", Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}, Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
		Namespace: namespace, Operation: admissionv1.Create, Object: runtime.RawExtension{Raw: raw},
	}}
	body, err := json.Marshal(review)
	if err != nil {
		b.Fatal(err)
	}
	api := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // whose it is decides nothing here
	return func() {
		response, err := api.Post(fmt.Sprintf("https://127.0.0.1:%d/pods", port), "application/json", bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		defer response.Body.Close()
		answer, err := io.ReadAll(response.Body)
		var got admissionv1.AdmissionReview
		if err = errors.Join(err, json.Unmarshal(answer, &got)); err != nil || got.Response == nil || len(got.Response.Patch) == 0 {
			b.Fatalf("no agent planned: %v\n%s", err, answer)
		}
	}
}

// usual is what pods have beside their images.
func usual(p *corev1.Pod) {
	for i := range p.Spec.Containers {
		for n := range 20 {
			p.Spec.Containers[i].Env = append(p.Spec.Containers[i].Env, corev1.EnvVar{Name: fmt.Sprintf("SETTING_%d", n), Value: strings.Repeat("v", 40)})
		}
	}
}

// chartContainer is the controller's in the chart's Deployment.
func chartContainer(b *testing.B) corev1.Container {
	b.Helper()
	for document := range bytes.SplitSeq(readFile(b, "../drainctl/install.yaml"), []byte("---\n")) {
		var d appsv1.Deployment
		if yaml.Unmarshal(document, &d) == nil && d.Kind == "Deployment" {
			return d.Spec.Template.Spec.Containers[0]
		}
	}
	b.Fatal("drainctl install prints no Deployment")
	return corev1.Container{}
}

// mebibytes reads a line of a process's status.
func mebibytes(b *testing.B, line string) float64 {
	b.Helper()
	kib, err := strconv.ParseFloat(strings.TrimSuffix(line, " kB"), 64)
	if err != nil {
		b.Fatal(err)
	}
	return kib / 1024
}
