//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

// A workload is what one manifest in deploy/ holds, free to be changed before it is applied.
type workload struct {
	ns         string
	proxy      string // the container with Envoy
	deployment *appsv1.Deployment
	job        *batchv1.Job
	service    *corev1.Service
	budget     *policyv1.PodDisruptionBudget
	configs    []*corev1.ConfigMap
	secret     *corev1.Secret
}

// load reads a manifest and moves it to ns. Service ports become NodePorts.
func load(t *testing.T, name, ns string) *workload {
	t.Helper()
	text, err := os.ReadFile(manifest(name))
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, text, ns)
}

func parse(t *testing.T, text []byte, ns string) *workload {
	t.Helper()
	w := &workload{ns: ns, proxy: "proxy"}
	if other := os.Getenv("E2E_ENVOY"); other != "" {
		text = bytes.ReplaceAll(text, []byte("envoyproxy/envoy:v1.40.0"), []byte("envoyproxy/envoy:v"+other))
	}
	for document := range bytes.SplitSeq(text, []byte("\n---\n")) {
		w.add(t, document)
	}
	for _, container := range w.containers() {
		if strings.HasPrefix(container.Image, "drain-agent") {
			container.ImagePullPolicy = corev1.PullNever // what runs is what was built here
		}
	}
	if w.service != nil {
		w.service.Spec.Type = corev1.ServiceTypeNodePort
	}
	return w
}

func (w *workload) add(t *testing.T, document []byte) {
	t.Helper()
	var kind metav1.TypeMeta
	decode(t, document, &kind, yaml.Unmarshal)
	var object metav1.Object
	switch kind.Kind {
	case "Deployment":
		w.deployment = &appsv1.Deployment{}
		object = w.deployment
	case "Job":
		w.job = &batchv1.Job{}
		object = w.job
	case "Service":
		w.service = &corev1.Service{}
		object = w.service
	case "PodDisruptionBudget":
		w.budget = &policyv1.PodDisruptionBudget{}
		object = w.budget
	case "ConfigMap":
		w.configs = append(w.configs, &corev1.ConfigMap{})
		object = w.configs[len(w.configs)-1]
	default:
		return
	}
	decode(t, document, object, yaml.UnmarshalStrict)
	object.SetNamespace(w.ns)
}

func decode(t *testing.T, document []byte, into any, with func([]byte, any, ...yaml.JSONOpt) error) {
	t.Helper()
	if err := with(document, into); err != nil {
		t.Fatal(err)
	}
}

func (w *workload) spec() *corev1.PodSpec {
	if w.job != nil {
		return &w.job.Spec.Template.Spec
	}
	return &w.deployment.Spec.Template.Spec
}

// containers lists pointers into the pod's spec, in start order.
func (w *workload) containers() []*corev1.Container {
	var all []*corev1.Container
	for _, list := range [][]corev1.Container{w.spec().InitContainers, w.spec().Containers} {
		for i := range list {
			all = append(all, &list[i])
		}
	}
	return all
}

// container returns the one with that name; there must be one.
func (w *workload) container(name string) *corev1.Container {
	all := w.containers()
	return all[slices.IndexFunc(all, func(c *corev1.Container) bool { return c.Name == name })]
}

// set changes the agent's flags: "grace-period=20s" replaces or adds --grace-period.
func (w *workload) set(flags ...string) *workload {
	agent := w.container("drain-agent")
	for _, flag := range flags {
		name, _, _ := strings.Cut(flag, "=")
		agent.Args = slices.DeleteFunc(agent.Args, func(arg string) bool { return strings.HasPrefix(arg, "--"+name+"=") })
		agent.Args = append(agent.Args, "--"+flag)
	}
	return w
}

// grace gives the pod another grace period and tells the agent.
func (w *workload) grace(seconds int64) *workload {
	w.spec().TerminationGracePeriodSeconds = &seconds
	return w.set(fmt.Sprintf("grace-period=%ds", seconds))
}

// withoutAgent takes the agent and all hooks out: the pod as it was before.
func (w *workload) withoutAgent() *workload {
	spec := w.spec()
	isAgent := func(c corev1.Container) bool { return c.Name == "drain-agent" }
	spec.InitContainers = slices.DeleteFunc(spec.InitContainers, isAgent)
	spec.Containers = slices.DeleteFunc(spec.Containers, isAgent)
	for _, container := range w.containers() {
		container.Lifecycle = nil
		if probe := container.StartupProbe; probe != nil && probe.HTTPGet != nil && probe.HTTPGet.Port.IntValue() == 9909 {
			probe.HTTPGet = nil
			probe.TCPSocket = &corev1.TCPSocketAction{Port: intstr.FromInt32(8000)}
		}
	}
	return w
}

// sleeping gives a preStop sleep to the app, and to a proxy that is a regular container: what people do today.
func (w *workload) sleeping(seconds int64) *workload {
	for i := range w.spec().Containers {
		w.spec().Containers[i].Lifecycle = &corev1.Lifecycle{
			PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: seconds}},
		}
	}
	return w
}

func (w *workload) replicas(n int32) *workload {
	w.deployment.Spec.Replicas = &n
	return w
}

// apply creates the workload and leaves it starting.
func (w *workload) apply(t *testing.T) {
	t.Helper()
	var objects []any
	for _, config := range w.configs {
		objects = append(objects, config)
	}
	if w.secret != nil {
		objects = append(objects, w.secret)
	}
	if w.service != nil {
		objects = append(objects, w.service)
	}
	if w.budget != nil {
		objects = append(objects, w.budget)
	}
	if w.deployment != nil {
		objects = append(objects, w.deployment)
	}
	if w.job != nil {
		objects = append(objects, w.job)
	}
	apply(t, w.ns, objects...)
}

// start applies a Deployment and waits until every replica serves.
func (w *workload) start(t *testing.T) *workload {
	t.Helper()
	w.apply(t)
	w.rolledOut(t)
	return w
}

func (w *workload) rolledOut(t *testing.T) {
	t.Helper()
	kubectl(t, "-n", w.ns, "rollout", "status", "deployment/"+w.deployment.Name, "--timeout=180s")
}

// selector finds the workload's pods.
func (w *workload) selector() string {
	if w.job != nil {
		return "job-name=" + w.job.Name
	}
	return metav1.FormatLabelSelector(w.deployment.Spec.Selector)
}

// target is where the first port of the Service answers on this machine.
func (w *workload) target(t *testing.T) string {
	t.Helper()
	return w.targets(t)[0]
}

// targets is where each port of the Service answers, in their order; kube-proxy may be later than the pods.
func (w *workload) targets(t *testing.T) []string {
	t.Helper()
	var service corev1.Service
	if err := json.Unmarshal(kubectl(t, "-n", w.ns, "get", "service", w.service.Name, "-o", "json"), &service); err != nil {
		t.Fatal(err)
	}
	host := nodeAddress(t)
	var all []string
	for _, port := range service.Spec.Ports {
		all = append(all, fmt.Sprintf("%s:%d", host, port.NodePort))
		eventually(t, time.Minute, "port "+port.Name+" of the Service answers, with every pod that it leads to", func() bool {
			for range 20 {
				conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", all[len(all)-1])
				if err != nil {
					return false
				}
				conn.Close()
			}
			return true
		})
	}
	return all
}

// nodeAddress is where NodePorts answer: loopback of our own node, else what E2E_NODE_ADDRESS or the first node itself says.
func nodeAddress(t *testing.T) string {
	t.Helper()
	if host := os.Getenv("E2E_NODE_ADDRESS"); host != "" {
		return host
	}
	if os.Getenv("CLUSTER") != "external" {
		return "127.0.0.1"
	}
	return string(kubectl(t, "get", "nodes", "-o", `jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}`))
}

// terminated waits until no pod of the workload is on its way out.
func (w *workload) terminated(t *testing.T) {
	t.Helper()
	eventually(t, 2*time.Minute, "no pod of "+w.ns+" is terminating", func() bool {
		return !slices.ContainsFunc(pods(t, w.ns, w.selector()), func(p corev1.Pod) bool { return p.DeletionTimestamp != nil })
	})
}

// proxyFirst puts the proxy before the agent, as Istio's injector does, and tells the agent.
func (w *workload) proxyFirst() *workload {
	w.set("outlives-me=proxy")
	slices.Reverse(w.spec().InitContainers)
	probe := w.container("proxy").StartupProbe // the agent starts later, so it cannot be asked
	probe.HTTPGet = nil
	probe.TCPSocket = &corev1.TCPSocketAction{Port: intstr.FromInt32(8000)}
	return w
}

// logErrors lets Envoy write down every response from 400 on, with the reason as it sees it.
func (w *workload) logErrors() *workload {
	const before = "          http_filters:\n"
	for _, config := range w.configs {
		config.Data["envoy.yaml"] = strings.Replace(config.Data["envoy.yaml"], before, `          access_log:
          - name: envoy.access_loggers.stdout
            filter: {status_code_filter: {comparison: {op: GE, value: {default_value: 400, runtime_key: none}}}}
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
              log_format: {text_format_source: {inline_string: "%START_TIME% %PROTOCOL% %REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %DURATION% ms, upstream %UPSTREAM_LOCAL_ADDRESS%\n"}}
`+before, 1)
	}
	return w
}
