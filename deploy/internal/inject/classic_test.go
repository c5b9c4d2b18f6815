package inject_test

import (
	"reflect"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/deploy/internal/inject"
	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
)

const (
	exclude = "traffic.sidecar.istio.io/excludeInboundPorts"
	rewrite = "sidecar.istio.io/rewriteAppHTTPProbers"
	native  = "sidecar.istio.io/nativeSidecar"
)

// injected is one shape after inject: its pods, and its notes by the workload's name.
func injected(t *testing.T, name, shape string) (after []*manifest.Workload, notes map[string]string) {
	t.Helper()
	o := options(name)
	o.Shape = shape
	out, reports, err := inject.File(name, shapes(t)[name], o)
	if err != nil {
		t.Fatal(err)
	}
	notes = map[string]string{}
	for _, r := range reports {
		if r.Plan != nil {
			notes[r.Object.Name] = strings.Join(r.Plan.Notes, "\n")
		}
	}
	return pods(t, name, out), notes
}

// held returns the path of a container's hook.
func held(c *corev1.Container) string {
	if c == nil || c.Lifecycle == nil || c.Lifecycle.PreStop == nil || c.Lifecycle.PreStop.HTTPGet == nil {
		return ""
	}
	return c.Lifecycle.PreStop.HTTPGet.Path
}

// Where Istio's sidecar is a regular container, it has our hook, and nothing that kubelet asks leads through its ports.
func TestClassicIstioIsHeld(t *testing.T) {
	for _, one := range []struct {
		name, shape, pod string
		ports            string
	}{
		{"66-istio-classic", "auto", "payments", "8090, 7000,9909,8091,8092"},
		{"66-istio-classic", "auto", "ledger", "9909,8081"},
		{"66-istio-classic", "native", "ledger", "9909,8081"},
		{"01-istio-label", "classic", "productpage-v1", "9909"},
		{"55-namespace-asks", "classic", "meshed", "9909"},
		{"67-istio-stub", "classic", "adjusted", "9909,8081"},
		{"69-istio-classic-probes", "auto", "cart", "9909"},
		{"68-istio-injected-cni", "auto", "reviews", "9909,9081"},
		{"03-istio-injected-classic", "auto", "ratings", "9909"},
	} {
		after, _ := injected(t, one.name, one.shape)
		for _, w := range after {
			if w.Name != one.pod {
				continue
			}
			proxy := w.Named("istio-proxy")
			if held(proxy) != "/prestop/proxy" {
				t.Errorf("%s %s: istio-proxy has no hook: %v", one.name, one.pod, names(w.Pod.Spec.Containers))
				continue
			}
			if were := proxy.Image != "auto" || one.name == "67-istio-stub"; !were && proxy.ImagePullPolicy != corev1.PullIfNotPresent {
				t.Errorf("%s: the API server would write the pull policy Always", one.pod)
			}
			if w.Pod.Annotations[exclude] != one.ports || w.Pod.Annotations[rewrite] != "false" {
				t.Errorf("%s %s: %s: %q, want %q; %s: %q", one.name, one.pod, exclude, w.Pod.Annotations[exclude], one.ports, rewrite, w.Pod.Annotations[rewrite])
			}
			if was := w.Pod.Annotations["sidecar.istio.io/status"] != ""; !was && w.Pod.Annotations[native] != "false" {
				t.Errorf("%s %s: Istio may add a native sidecar, and two kinds of hook would meet in it", one.name, one.pod)
			}
			agent := w.Named("drain-agent")
			if args := strings.Join(agent.Args, " "); strings.Contains(args, "--outlives-me") || !regexp.MustCompile(`--stop-order=\S+,proxy `).MatchString(args) {
				t.Errorf("%s %s: the proxy's end is not waited for: %s", one.name, one.pod, args)
			}
		}
	}
}

// A port where requests come in stays behind the proxy, so probes of it are asked inside the container, as often and as long as
// before; what cannot be asked so, the person hears.
func TestProbesOfTheServingPortAreAskedInside(t *testing.T) {
	after, notes := injected(t, "69-istio-classic-probes", "auto")
	pod := after[0]
	const program = "/run/drain-agent/drain-agent probe "
	for _, one := range []struct {
		container, probe, want          string
		timeout, period, failures, kill int32
	}{
		{"cart", "startup", program + "tcp://127.0.0.1:8080", 2, 2, 30, 0},
		{"cart", "readiness", program + "--timeout=3s http://127.0.0.1:8080/ready?deep=1", 4, 0, 0, 0},
		{"cart", "liveness", program + "--service=cart 127.0.0.1:8080", 2, 0, 0, 5},
		{"123", "readiness", program + "https://127.0.0.1:9443/", 2, 0, 0, 0},
		{"123", "liveness", program + "--header=Host: shop.example --header=Cookie: a=b http://127.0.0.1:9443/", 2, 0, 0, 0},
	} {
		c := pod.Named(one.container)
		probe := map[string]*corev1.Probe{"startup": c.StartupProbe, "readiness": c.ReadinessProbe, "liveness": c.LivenessProbe}[one.probe]
		if probe.Exec == nil || probe.HTTPGet != nil || probe.TCPSocket != nil || probe.GRPC != nil {
			t.Errorf("%s %s: %+v", one.container, one.probe, probe.ProbeHandler)
			continue
		}
		kill := int32(0)
		if probe.TerminationGracePeriodSeconds != nil {
			kill = int32(*probe.TerminationGracePeriodSeconds)
		}
		if got := strings.Join(probe.Exec.Command, " "); got != one.want ||
			[4]int32{probe.TimeoutSeconds, probe.PeriodSeconds, probe.FailureThreshold, kill} != [4]int32{one.timeout, one.period, one.failures, one.kill} {
			t.Errorf("%s %s: %s, %+v; want %+v", one.container, one.probe, got, probe, one)
		}
		if len(c.VolumeMounts) != 1 || pod.Pod.Spec.InitContainers[0].Name != "drain-agent-install" {
			t.Errorf("%s: the program is not there: %v", one.container, c.VolumeMounts)
		}
	}
	for _, want := range []string{"the readinessProbe of cart asks port 8080", "the postStart of 123 asks port 9443, where requests come in: that port stays behind istio-proxy, and under STRICT mutual TLS kubelet's plain call is refused"} {
		if !strings.Contains(notes["cart"], want) {
			t.Errorf("%q, want %q", notes["cart"], want)
		}
	}
	if _, notes := injected(t, "66-istio-classic", "auto"); strings.Contains(notes["payments"], "where requests come in") {
		t.Errorf("payments: %q", notes["payments"])
	}
}

// Without Istio, and beside a native sidecar, kubelet asks as before.
func TestProbesStayWhereKubeletReachesThem(t *testing.T) {
	for name, text := range shapes(t) {
		out, reports, err := inject.File(name, text, options(name))
		if err != nil {
			t.Fatal(err)
		}
		classic, asked := map[string]bool{}, map[string]string{}
		for _, r := range reports {
			if r.Plan != nil {
				classic[r.Object.Name] = r.Plan.Classic
				if r.Plan.ReadyProbe {
					asked[r.Object.Name] = r.Plan.Proxy.Container
				}
			}
		}
		was := pods(t, name, text)
		for i, w := range pods(t, name, out) {
			for _, c := range was[i].Containers() {
				is := w.Named(c.Name)
				if c.Name == asked[w.Name] {
					c.ReadinessProbe = is.ReadinessProbe
				}
				if !classic[w.Name] && (!equal(c.ReadinessProbe, is.ReadinessProbe) || !equal(c.LivenessProbe, is.LivenessProbe)) {
					t.Errorf("%s: %s %s: its probes are others", name, w.Name, c.Name)
				}
			}
		}
	}
}

func equal(a, b *corev1.Probe) bool { return reflect.DeepEqual(a, b) }

// Without a word from anybody Istio's sidecar is taken for a native one, with its own hook, and one sentence says so.
func TestNativeIsAssumedAloud(t *testing.T) {
	for name, pod := range map[string]string{"01-istio-label": "productpage-v1", "67-istio-stub": "adjusted"} {
		after, notes := injected(t, name, "auto")
		if strings.Count(notes[pod], "--shape=classic") != 1 {
			t.Errorf("%s: %q names the flag not once", name, notes[pod])
		}
		if w := after[0]; held(w.Named("istio-proxy")) != "" || w.Pod.Annotations[rewrite] != "" {
			t.Errorf("%s: a hook beside that of Istio would be refused", name)
		}
	}
	text := strings.Replace(string(shapes(t)["01-istio-label"]), "annotations:\n", "annotations:\n        "+native+": \"true\"\n", 1)
	for _, shape := range []string{"auto", "classic"} {
		o := options("x")
		o.Shape = shape
		out, reports, err := inject.File("x", []byte(text), o)
		if err != nil {
			t.Fatal(err)
		}
		if w := pods(t, "x", out)[0]; w.Named("istio-proxy") != nil || strings.Contains(strings.Join(reports[0].Plan.Notes, ""), "--shape=classic") {
			t.Errorf("%s: the annotation says native: %v", shape, reports[0].Plan.Notes)
		}
	}
}

// The end of work that has no port is seen only beside a native sidecar: the error says how Istio makes one.
func TestClassicJobWithoutPortIsAsked(t *testing.T) {
	text := "apiVersion: batch/v1\nkind: Job\nmetadata: {name: x}\nspec:\n  template:\n    metadata: {annotations: {" + native + ": \"false\"}, labels: {sidecar.istio.io/inject: \"true\"}}\n" +
		"    spec:\n      restartPolicy: Never\n      containers:\n      - {name: work, image: registry.example/work:1}\n"
	_, _, err := inject.File("x", []byte(text), options("x"))
	if err == nil || !strings.Contains(err.Error(), native+`: "true"`) {
		t.Errorf("%v", err)
	}
}
