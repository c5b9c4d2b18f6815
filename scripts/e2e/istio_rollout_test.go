//go:build e2e

package e2e

import (
	"bytes"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

var (
	nativeIstio  = map[string]string{"sidecar.istio.io/nativeSidecar": "true"}
	classicIstio = map[string]string{"sidecar.istio.io/nativeSidecar": "false"}
	fromTemplate = map[string]string{
		"sidecar.istio.io/nativeSidecar": "true", "inject.istio.io/templates": "sidecar,drain-agent",
		"drain-agent/app-source": "prometheus:http://127.0.0.1:8090/metrics#active_requests",
	}
	exitOnZero = map[string]string{"proxy.istio.io/config": `{"proxyMetadata": {"EXIT_ON_ZERO_ACTIVE_CONNECTIONS": "true"}}`}
)

const meshSource = "--app-source=prometheus:http://127.0.0.1:8090/metrics#active_requests"

// A meshWay is one to stop a pod in Istio: one that our pages offer, or what people run today.
type meshWay struct {
	name  string
	long  bool // only in the long form
	today bool // without the agent: it loses requests, or the others would prove nothing
	pods  func(t *testing.T) *workload
}

// roll starts the pods and replaces them under load, those without the agent once.
func (w meshWay) roll(t *testing.T) (*workload, rollout) {
	t.Helper()
	pods, adapt, n := w.pods(t), narrow, *rollouts
	if strings.HasPrefix(w.name, "gateway") {
		behindGateway(t, pods)
	} else {
		adapt = throughTLS(t)
	}
	if w.today {
		n = 1
	}
	return pods, roll(t, pods, n, adapt)
}

func meshWays() []meshWay {
	ordinary := func(change ...func(*workload)) func(t *testing.T) *workload {
		return func(t *testing.T) *workload {
			w := meshed(t, meshFile(t, "payments.yaml"))
			for _, one := range change {
				one(w)
			}
			return w
		}
	}
	annotated := func(pairs map[string]string) func(*workload) { return func(w *workload) { w.annotate(pairs) } }
	file := func(name string) func(t *testing.T) *workload {
		return func(t *testing.T) *workload { return meshed(t, meshService(t), meshFile(t, name)) }
	}
	return []meshWay{
		{name: "native, sidecar.yaml", pods: file("istio/sidecar.yaml")},
		{name: "classic, sidecar-classic.yaml", pods: file("istio/sidecar-classic.yaml")},
		{name: "gateway, gateway.yaml", pods: func(t *testing.T) *workload {
			return meshed(t, meshFile(t, "gateway-service.yaml"), meshFile(t, "istio/gateway.yaml"))
		}},
		{name: "native, injection template", pods: ordinary(annotated(fromTemplate))},
		{name: "native, injection template, exit on zero", pods: ordinary(annotated(fromTemplate), annotated(exitOnZero))},
		{name: "native, drainctl inject", pods: func(t *testing.T) *workload { return injectedIntoMesh(t, nativeIstio, meshSource) }},
		{name: "classic, drainctl inject", pods: func(t *testing.T) *workload { return injectedIntoMesh(t, classicIstio, meshSource) }},
		{name: "classic, drainctl inject, exit on zero", long: true, pods: func(t *testing.T) *workload {
			return injectedIntoMesh(t, classicIstio, meshSource).annotate(exitOnZero)
		}},
		{name: "gateway, chart, drainctl inject", pods: func(t *testing.T) *workload {
			return chartGateway(t, func(deployment []byte) []byte { return drainctl(t, deployment, "inject", "-f", "-") })
		}},
		{name: "native, today", long: true, today: true, pods: ordinary(annotated(nativeIstio))},
		{name: "native, today, exit on zero", long: true, today: true, pods: ordinary(annotated(nativeIstio), annotated(exitOnZero))},
		{name: "native, today, sleep 5", long: true, today: true, pods: ordinary(annotated(nativeIstio), func(w *workload) { w.sleeping(5) })},
		{name: "classic, today", long: true, today: true, pods: ordinary(annotated(classicIstio))},
		{name: "classic, today, exit on zero", long: true, today: true, pods: ordinary(annotated(classicIstio), annotated(exitOnZero))},
		{name: "gateway, chart, today", long: true, today: true, pods: func(t *testing.T) *workload {
			return chartGateway(t, func(deployment []byte) []byte { return deployment })
		}},
	}
}

// Every way of our pages to drain a pod in Istio, under mutual TLS that nothing else may pass: a rollout loses nothing. In the long
// form what people run today stands beside them, and the sum is large enough to mean something.
func TestIstioRollout(t *testing.T) {
	onlyMesh(t)
	var rows []Row
	began := time.Now()
	done := map[string]bool{}
	for _, way := range meshWays() {
		shape, name, _ := strings.Cut(way.name, ", ")
		if *brief && done[shape] {
			continue
		}
		done[shape] = true
		t.Run(way.name, func(t *testing.T) {
			if way.long {
				onlyLong(t)
			}
			w, r := way.roll(t)
			if r.stoodStill() {
				t.Logf("the clients stood still for %.1f s: once more", r.load.LatestMS/1000)
				w, r = way.roll(t)
			}
			if r.stoodStill() {
				t.Errorf("the clients stood still again, for %.1f s, which proves nothing of the pods: run it on a machine that does less", r.load.LatestMS/1000)
			}
			rows = append(rows, Row{shape, name, r.load.Requests, r.load.Failed, r.failedPer, r.stops})
			if way.today {
				losesSomething(t, r)
			} else {
				drained(t, w, r)
			}
		})
	}
	meshTable(t, rows, began)
}

// meshTable prints the rows. A complete long run has at least 100,000 requests to pods with the agent.
func meshTable(t *testing.T, rows []Row, began time.Time) {
	t.Helper()
	t.Log("| Shape | Pod | Rollouts | Requests | Failed | Per 100,000, median | Seconds per stop, min / median / max |")
	requests, failed := 0, 0
	for _, row := range rows {
		t.Log(row)
		if !strings.Contains(row.Pod, "today") {
			requests, failed = requests+row.Requests, failed+row.Failed
		}
	}
	t.Logf("with the agent: %d of %d requests failed", failed, requests)
	t.Logf("in %s", time.Since(began).Round(time.Second))
	if *long && len(rows) == len(meshWays()) && requests < 100_000 {
		t.Errorf("%d requests to pods with the agent, want at least 100000: -rollouts=%d was too little", requests, *rollouts)
	}
}

// injectedIntoMesh is the ordinary Deployment, which says which sidecar it gets, after one command.
func injectedIntoMesh(t *testing.T, sidecar map[string]string, args ...string) *workload {
	t.Helper()
	return meshed(t, drainctl(t, payments(t, sidecar, nil), append([]string{"inject", "-f", "-"}, args...)...))
}

// payments is the text of the ordinary Deployment with annotations, changed.
func payments(t *testing.T, annotations map[string]string, change func(*workload)) []byte {
	t.Helper()
	w := parse(t, meshFile(t, "payments.yaml"), "payments").annotate(annotations)
	w.service.Spec.Type = ""
	if change != nil {
		change(w)
	}
	var text []byte
	for _, object := range []any{w.service, w.deployment} {
		one, err := yaml.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		text = append(append(text, one...), "\n---\n"...)
	}
	return bytes.TrimSuffix(text, []byte("\n---\n"))
}

// meshService is the Service of the payments, for the Deployments of istio/.
func meshService(t *testing.T) []byte {
	t.Helper()
	service, _, _ := bytes.Cut(meshFile(t, "payments.yaml"), []byte("\n---\n"))
	return service
}

// behindGateway starts the payments that a gateway leads to, as a native sidecar, and its routes. What the gateway sends is
// HTTP/2, which carries everything.
func behindGateway(t *testing.T, w *workload) {
	t.Helper()
	service := bytes.Replace(meshFile(t, "payments.yaml"), []byte("name: mixed"), []byte("name: grpc"), 1)
	parse(t, service, w.ns).annotate(nativeIstio).start(t)
	feed(t, meshFile(t, "route.yaml"), "-n", w.ns, "apply", "-f", "-")
}

// chartGateway installs what Istio's chart makes, but for the Deployment, which is changed and left to be started.
func chartGateway(t *testing.T, change func(deployment []byte) []byte) *workload {
	t.Helper()
	ns := namespace(t, "privileged")
	var deployment []byte
	var others [][]byte
	for document := range bytes.SplitSeq(gatewayChart(t, ns), []byte("---\n")) {
		if bytes.Contains(document, []byte("\nkind: Deployment\n")) {
			deployment = document
		} else {
			others = append(others, document)
		}
	}
	all := bytes.Join(others, []byte("\n---\n"))
	feed(t, all, "-n", ns, "apply", "-f", "-")
	w := parse(t, slices.Concat(all, []byte("\n---\n"), change(deployment)), ns)
	w.proxy = "istio-proxy"
	return w
}

// gatewayChart is Istio's own, two pods that nobody scales; the node cannot pull.
func gatewayChart(t *testing.T, ns string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), meshScript, "chart", "gateway", ns)
	cmd.Stdin = strings.NewReader(`{imagePullPolicy: IfNotPresent, replicaCount: 2, autoscaling: {enabled: false},
		resources: {requests: {cpu: 10m, memory: 64Mi}}, service: {type: NodePort, ports: [{name: http2, port: 80, targetPort: 80}]}}`)
	text, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return text
}
