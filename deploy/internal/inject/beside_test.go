package inject_test

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/deploy/internal/inject"
)

// What injectors make of a pod, as far as it matters here: written after the golden files of Istio (pkg/kube/inject/testdata), Kuma
// (webhooks/injector/testdata), Consul (connect-inject/webhook) and Linkerd (cli/cmd/testdata).
const (
	besideApp   = "  containers:\n  - {name: app, image: \"registry.example/app:1\", ports: [{containerPort: 8080}]}\n"
	besideIstio = "    image: registry.example/istio/proxyv2:1.27.0\n    args: [proxy, sidecar]\n    ports: [{containerPort: 15090, name: http-envoy-prom}]\n"
	istioInit   = "  initContainers:\n  - args: [istio-iptables, -p, \"15001\", -z, \"15006\", -u, \"1337\", -m, REDIRECT, -i, \"*\", -x, \"\", -b, \"*\", -d, \"15090,15021,15020\", --log_output_level=default:info]\n    image: registry.example/istio/proxyv2:1.27.0\n    name: istio-init\n"
)

func TestBesideOtherInjectors(t *testing.T) {
	excludes := func(key string) func(*testing.T, corev1.Pod) {
		return func(t *testing.T, pod corev1.Pod) {
			if list := pod.Annotations[key]; !slices.Contains(strings.Split(list, ","), "9909") {
				t.Errorf("%s is %q", key, list)
			}
		}
	}
	redirects := func(t *testing.T, pod corev1.Pod) {
		at := slices.IndexFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == "istio-init" })
		if args := strings.Join(pod.Spec.InitContainers[at].Args, " "); !strings.Contains(args, " -d 15090,15021,15020,9909 --log") || !strings.Contains(args, "-x  -b *") {
			t.Errorf("istio-init: %s", args)
		}
	}
	for name, row := range map[string]struct {
		asks, after string // of the pod's metadata; of its spec once the other injector has been there
		state       inject.State
		check       func(*testing.T, corev1.Pod)
	}{
		"Istio, native": {"labels: {sidecar.istio.io/inject: \"true\"}", besideApp + istioInit + "  - name: istio-proxy\n    restartPolicy: Always\n" + besideIstio, inject.Injected, func(t *testing.T, pod corev1.Pod) {
			redirects(t, pod)
			if got := names(pod.Spec.InitContainers); !slices.Equal(got, []string{"drain-agent", "istio-init", "istio-proxy"}) || hook(pod, "istio-proxy") != "" || hook(pod, "app") != "/prestop/app" {
				t.Errorf("%v, hooks %q %q", got, hook(pod, "istio-proxy"), hook(pod, "app"))
			}
		}},
		"Istio, classic": {"labels: {sidecar.istio.io/inject: \"true\"}", besideApp + "  - name: istio-proxy\n" + besideIstio + istioInit, inject.Injected, func(t *testing.T, pod corev1.Pod) {
			redirects(t, pod)
			if hook(pod, "istio-proxy") != "/prestop/proxy" || hook(pod, "app") != "/prestop/app" {
				t.Errorf("hooks %q %q", hook(pod, "istio-proxy"), hook(pod, "app"))
			}
		}},
		"Istio with its CNI plugin": {
			"labels: {sidecar.istio.io/inject: \"true\"}", besideApp + "  - name: istio-proxy\n" + besideIstio + "  initContainers:\n  - {name: istio-validation, image: \"registry.example/istio/proxyv2:1.27.0\", args: [istio-iptables, --run-validation]}\n", inject.Injected,
			excludes("traffic.sidecar.istio.io/excludeInboundPorts"),
		},
		"Kuma, native": {
			"labels: {kuma.io/sidecar-injection: enabled}", besideApp + "  initContainers:\n  - {name: kuma-init, image: \"kuma/kuma-init:2.9\", args: [--redirect-inbound=true, --exclude-inbound-ports, \"\"], command: [/usr/bin/kumactl, install, transparent-proxy]}\n  - {name: kuma-sidecar, image: \"kuma/kuma-dp:2.9\", restartPolicy: Always, args: [run]}\n", inject.Injected,
			excludes("traffic.kuma.io/exclude-inbound-ports"),
		},
		"Consul": {"annotations: {consul.hashicorp.com/connect-inject: \"true\"}", besideApp + "  - {name: consul-dataplane, image: \"hashicorp/consul-dataplane:1.5\", args: [-addresses, consul]}\n  initContainers:\n  - name: consul-connect-inject-init\n    image: hashicorp/consul-k8s-control-plane:1.5\n    env: [{name: CONSUL_REDIRECT_TRAFFIC_CONFIG, value: '{\"ProxyInboundPort\":20000,\"ExcludeInboundPorts\":[\"8081\"]}'}]\n", inject.Injected, func(t *testing.T, pod corev1.Pod) {
			at := slices.IndexFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == "consul-connect-inject-init" })
			if got := pod.Spec.InitContainers[at].Env[0].Value; got != `{"ExcludeInboundPorts":["8081","9909"],"ProxyInboundPort":20000}` {
				t.Error(got)
			}
		}},
		"Consul with its CNI plugin": {"annotations: {consul.hashicorp.com/connect-inject: \"true\", consul.hashicorp.com/redirect-traffic-config: '{\"ExcludeInboundPorts\":null}'}", besideApp + "  - {name: consul-dataplane, image: \"hashicorp/consul-dataplane:1.5\", args: [-addresses, consul]}\n", inject.Injected, func(t *testing.T, pod corev1.Pod) {
			if got := pod.Annotations["consul.hashicorp.com/redirect-traffic-config"]; got != `{"ExcludeInboundPorts":["9909"]}` {
				t.Error(got)
			}
		}},
		"Linkerd": {"annotations: {linkerd.io/inject: enabled}", besideApp + "  initContainers:\n  - {name: linkerd-init, image: \"cr.l5d.io/linkerd/proxy-init:v2.4.1\"}\n  - {name: linkerd-proxy, image: \"cr.l5d.io/linkerd/proxy:edge\", restartPolicy: Always, ports: [{containerPort: 4143}]}\n", inject.NoEnvoy, nil},
	} {
		t.Run(name, func(t *testing.T) {
			head := "apiVersion: v1\nkind: Pod\nmetadata:\n  " + row.asks + "\nspec:\n"
			first, _ := admitted(t, pods(t, "pod", []byte(head+besideApp))[0], nil, options("")) // we are called before
			if want := map[bool]inject.State{true: inject.Waiting, false: inject.NoEnvoy}[row.state == inject.Injected]; first.State != want || len(first.Patch) > 0 {
				t.Errorf("before: %s (%s), %d changes", first.State, first.Why, len(first.Patch))
			}
			second, pod := admitted(t, pods(t, "pod", []byte(head+row.after))[0], nil, options("")) // called again, or after
			if second.State != row.state {
				t.Fatalf("after: %s (%s)", second.State, second.Why)
			}
			if row.check != nil {
				row.check(t, pod)
			}
		})
	}
}

// hook is the path of a container's preStop hook.
func hook(pod corev1.Pod, container string) string {
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		if c.Name == container && c.Lifecycle != nil && c.Lifecycle.PreStop != nil && c.Lifecycle.PreStop.HTTPGet != nil {
			return c.Lifecycle.PreStop.HTTPGet.Path
		}
	}
	return ""
}

// An Envoy beside its app that nobody asks whether it listens makes its pod ready too early: the agent is asked for it. One that has a
// probe keeps it, and where its admin is only assumed nothing is asked: such a pod might never be ready.
func TestProxyIsAskedBeforeClientsCome(t *testing.T) {
	const head = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: shop}\nspec:\n  selector: {matchLabels: {a: b}}\n  template:\n" +
		"    metadata: {labels: {a: b}}\n    spec:\n      containers:\n      - {name: server, image: shop:1, ports: [{containerPort: 8080}]}\n"
	const listens = "args: [--config-yaml, '{admin: {address: {socket_address: {address: 127.0.0.1, port_value: 15000}}}}']"
	for name, row := range map[string]struct{ proxy, want string }{
		"nobody asks":      {"- {name: envoy, image: envoyproxy/envoy:v1.40.0, " + listens + "}", "/startupz/proxy"},
		"its own":          {"- {name: envoy, image: envoyproxy/envoy:v1.40.0, " + listens + ", readinessProbe: {httpGet: {path: /ready, port: 9}}}", "/ready"},
		"its own at start": {"- {name: envoy, image: envoyproxy/envoy:v1.40.0, " + listens + ", startupProbe: {httpGet: {path: /ready, port: 9}}}", ""},
		"admin is assumed": {"- {name: envoy, image: envoyproxy/envoy:v1.40.0}", ""},
	} {
		out, _, err := inject.File("x", []byte(head+"      "+row.proxy+"\n"), options("x"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		asks := ""
		if probe := pods(t, "x", out)[0].Named("envoy").ReadinessProbe; probe != nil {
			asks = probe.HTTPGet.Path
		}
		if asks != row.want {
			t.Errorf("%s: kubelet asks %q, want %q", name, asks, row.want)
		}
	}
}
