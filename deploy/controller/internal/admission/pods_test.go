package admission

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/drain-agent/drain-agent/deploy/internal/inject"
)

// cluster holds a namespace and nothing else, or fails.
type cluster struct {
	err   error
	panic bool
}

func (c cluster) Get(_ context.Context, key client.ObjectKey, o client.Object, _ ...client.GetOption) error {
	if c.panic {
		panic("a bug")
	}
	o.SetName(key.Name)
	return c.err
}

func (c cluster) List(context.Context, client.ObjectList, ...client.ListOption) error { return c.err }

const pod = `{"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "web-", "namespace": "payments"}, "spec": {"containers": [
	{"name": "app", "image": "app:1", "ports": [{"containerPort": 8080}], "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}}},
	{"name": "envoy", "image": "envoyproxy/envoy:v1.40.0", "args": ["-c", "/etc/envoy/envoy.yaml"]}]}}`

// alone is a pod without an Envoy.
func alone(annotations string) string {
	return `{"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "web-", "namespace": "payments", "annotations": {` + annotations + `}},
	"spec": {"containers": [{"name": "app", "image": "app:1", "ports": [{"containerPort": 8080}]}]}}`
}

func ask(raw string) admission.Request {
	return admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{Namespace: "payments", Object: runtime.RawExtension{Raw: []byte(raw)}}}
}

// Whatever happens, the pod is allowed, and its maker is told.
func TestNoPodIsEverRefused(t *testing.T) {
	for name, row := range map[string]struct {
		cluster cluster
		pod     string
		state   inject.State
		warning string
	}{
		"injected":                {cluster{}, pod, inject.Injected, ""},
		"in the host's network":   {cluster{}, strings.ReplaceAll(pod, `"containers"`, `"hostNetwork": true, "containers"`), inject.Injected, "drain-agent: the pods are in the host's network: the agent takes port 9909 of every node"},
		"there, with its port":    {cluster{}, strings.ReplaceAll(strings.ReplaceAll(pod, `"containers"`, `"hostNetwork": true, "containers"`), `"metadata": {`, `"metadata": {"annotations": {"drain-agent.io/port": "9950"}, `), inject.Injected, ""},
		"no Envoy":                {cluster{}, strings.ReplaceAll(pod, "envoy", "other"), inject.NoEnvoy, ""},
		"no Envoy, and it asks":   {cluster{}, alone(`"drain-agent.io/proxy": "none", "drain-agent.io/app-source": "socket:8080"`), inject.Injected, ""},
		"it does not say how":     {cluster{}, alone(`"drain-agent.io/proxy": "none"`), inject.Refused, "drain-agent is not added: container app: nothing says how many requests it holds"},
		"cannot be planned":       {cluster{}, strings.ReplaceAll(pod, "app:1", "envoyproxy/envoy:v1"), inject.Refused, "drain-agent is not added: two containers look like Envoy"},
		"the API server is away":  {cluster{err: errors.New("nobody\nthere")}, pod, failed, "drain-agent is not added: read namespace payments: nobody there"},
		"a bug":                   {cluster{panic: true}, pod, failed, "the controller has a bug"},
		"what cannot be read":     {cluster{}, `{"a": `, failed, "drain-agent is not added"},
		"what is no pod":          {cluster{}, `{"apiVersion": "v1", "kind": "Service"}`, failed, "it is no pod"},
		"a pod without anything":  {cluster{}, `{"apiVersion": "v1", "kind": "Pod"}`, inject.Refused, "the pod has no containers"},
		"a field of another type": {cluster{}, `{"apiVersion": "v1", "kind": "Pod", "spec": {"containers": 7}}`, failed, "should be a list"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &Pods{Beside: &Beside{Cached: row.cluster}, Defaults: inject.Options{Image: "agent:1", Shape: "auto", Proxy: "auto"}, Log: slog.New(slog.DiscardHandler)}
			if err := p.Metrics(prometheus.NewRegistry()); err != nil {
				t.Fatal(err)
			}
			answer := p.Handle(t.Context(), ask(row.pod))
			said := strings.Join(answer.Warnings, "\n")
			if !answer.Allowed || answer.AuditAnnotations["state"] != string(row.state) || (len(answer.Patch) > 0) != (row.state == inject.Injected) {
				t.Errorf("allowed %v, %v, patch %s", answer.Allowed, answer.AuditAnnotations, answer.Patch)
			}
			if !strings.Contains(said, row.warning) || (row.warning == "") != (said == "") || strings.Contains(said, "\n") {
				t.Errorf("warnings %q, want %q", said, row.warning)
			}
			if n := testutil.ToFloat64(p.counted.WithLabelValues(string(row.state))); n != 1 {
				t.Errorf("counted %v times", n)
			}
			w := &Workloads{Beside: p.Beside, Log: p.Log}
			if answer := w.Handle(t.Context(), ask(row.pod)); !answer.Allowed {
				t.Errorf("as a workload: %+v", answer)
			}
		})
	}
}

// BenchmarkHandle is one question about a pod, without the network.
func BenchmarkHandle(b *testing.B) {
	p := &Pods{Beside: &Beside{Cached: cluster{}}, Defaults: inject.Options{Image: "agent:1", Shape: "auto", Proxy: "auto"}, Log: slog.New(slog.DiscardHandler)}
	var typed corev1.Pod
	if err := json.Unmarshal([]byte(pod), &typed); err != nil {
		b.Fatal(err)
	}
	raw, err := json.Marshal(&typed)
	if err != nil {
		b.Fatal(err)
	}
	before := processor(b)
	b.ReportAllocs()
	for b.Loop() {
		if answer := p.Handle(b.Context(), ask(string(raw))); len(answer.Patch) == 0 {
			b.Fatal("no agent")
		}
	}
	b.ReportMetric((processor(b)-before)/float64(b.N), "cpu-ms/op")
}

// processor is the time that this process has had, in milliseconds.
func processor(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e6
}
