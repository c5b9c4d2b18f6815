package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/drain-agent/drain-agent/scripts/envoy/envoybin"
	"github.com/drain-agent/drain-agent/scripts/envoy/envoytest"
	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

const (
	newest     = "1.40.0"
	inbound    = 10000
	tcpPort    = 10001 // of the listener that proxies raw TCP
	tlsPort    = 10002 // of the one that passes TLS through
	agentPort  = 9909
	appMetrics = "prometheus:http://127.0.0.1:8090/metrics#active_requests"
)

var binaries struct{ agent, app string } // built once by TestMain

func TestMain(m *testing.M) {
	pod.Helper()
	if kind := os.Getenv("FAKE_ADMIN"); kind != "" {
		fakeAdmin(kind)
	}
	if os.Getenv("FAKE_APP") != "" {
		fakeApp()
	}
	if ending := os.Getenv("FAKE_JOB"); ending != "" {
		fakeJob(ending)
	}
	if envoy := os.Getenv("FAKE_PILOT"); envoy != "" {
		fakePilot(envoy)
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil { // a drain is mostly waiting
		panic(err)
	}
	os.Exit(build(m))
}

func build(m *testing.M) int {
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binaries.agent, binaries.app = filepath.Join(dir, "drain-agent"), filepath.Join(dir, "app")
	for program, pkg := range map[string]string{binaries.agent: "..", binaries.app: "../../app"} {
		cmd := exec.Command("go", "build", "-o", program, pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n%s", pkg, err, out)
			return 1
		}
	}
	return m.Run()
}

// shape is where the agent stands in the pod.
type shape string

const (
	nativeAgentFirst shape = "native, agent first"
	nativeProxyFirst shape = "native, proxy first"
	classic          shape = "classic"
)

// setup is one pod. The zero value is the newest Envoy with an immediate drain strategy and the agent as the first native sidecar.
type setup struct {
	shape    shape
	version  string
	envoy    envoytest.Options
	gradual  bool
	grace    int64    // seconds; 30
	agent    []string // further flags
	appArgs  []string
	noApp    bool // the agent does not read the app
	uds      bool // Envoy's admin on a Unix socket that the test can reach too
	manifest func(*corev1.Pod)

	bootstrap func(string) map[string]string // what becomes of Envoy's configuration: its files, of which envoy.json is the first
}

// under is a pod under test.
type under struct {
	*pod.Pod
	t   *testing.T
	dir string

	istio  bool
	served atomic.Int64 // clients that got a first answer
}

const adminSocket = "/run/drain-agent/envoy.sock"

func start(t *testing.T, s setup) *under {
	t.Helper()
	mesh, istio := istioShape(t.Name())
	if istio {
		s.shape = mesh
	}
	if s.shape == "" {
		s.shape = nativeAgentFirst
	}
	if s.version == "" {
		s.version = newest
	}
	if s.grace == 0 {
		s.grace = 30
	}
	envoy, err := envoybin.Path(t.Context(), s.version)
	if err != nil {
		t.Fatal(err)
	}
	s.envoy.AppPort, s.envoy.Inbound, s.envoy.Host = 8080, inbound, "0.0.0.0"
	if s.uds {
		s.envoy.AdminUDS = adminSocket
		s.agent = append(s.agent, "--envoy-admin=unix://"+adminSocket)
	}
	s.envoy.Admin = 15000
	s.envoy.SameProto = true
	bootstrap, err := s.envoy.Render()
	if err != nil {
		t.Fatal(err)
	}
	for name, port := range map[string]int{"tcp": tcpPort, "tls": tlsPort} {
		head := "name: " + name + "\n    address: {socket_address: {address: 0.0.0.0, port_value: "
		bootstrap = strings.Replace(bootstrap, head+"0}}", fmt.Sprintf("%s%d}}", head, port), 1)
	}
	manifest := s.pod()
	if istio {
		bootstrap = s.becomeIstio(t, manifest, envoy)
	}
	files := map[string]string{"envoy.yaml": bootstrap}
	if s.bootstrap != nil {
		files = s.bootstrap(bootstrap)
	}
	dir, err := os.MkdirTemp("", "pod") //nolint:usetesting // short: a Unix socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if s.manifest != nil {
		s.manifest(manifest)
	}
	p, err := pod.Start(t.Context(), manifest, pod.Options{
		Images:     map[string]string{"envoy": envoy, "agent": binaries.agent, "app": binaries.app, "fake": os.Args[0]},
		ConfigMaps: map[string]map[string]string{"envoy": files},
		BackOff:    time.Second,
		Dir:        dir,
	})
	if err != nil {
		t.Fatal(err)
	}
	u := &under{Pod: p, t: t, dir: dir, istio: istio}
	t.Cleanup(func() {
		u.keepsItsPromises(containerOf(manifest, "agent"))
		if t.Failed() {
			u.dump()
		}
		p.Close()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	if err := p.WaitReady(ctx); err != nil {
		t.Fatalf("pod is not ready: %v", err)
	}
	return u
}

func (s setup) pod() *corev1.Pod {
	always := corev1.ContainerRestartPolicyAlways
	agent := corev1.Container{
		Name: "agent", Image: "agent", Args: s.agentArgs(), Ports: containerPorts(agentPort),
		ReadinessProbe: httpProbe("/readyz", agentPort), Lifecycle: hook("agent"),
		VolumeMounts: []corev1.VolumeMount{{Name: "run", MountPath: "/run/drain-agent"}},
	}
	strategy := "immediate"
	if s.gradual {
		strategy = "gradual"
	}
	proxy := corev1.Container{
		Name: "proxy", Image: "envoy", Ports: containerPorts(inbound, tcpPort, tlsPort, 15000), Lifecycle: hook("proxy"),
		Args: []string{"-c", "/etc/envoy/envoy.yaml", "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", "--drain-strategy", strategy},
		VolumeMounts: []corev1.VolumeMount{
			{Name: "envoy", MountPath: "/etc/envoy"}, {Name: "run", MountPath: "/run/drain-agent"},
		},
		ReadinessProbe: httpProbe("/startupz/proxy", agentPort), // a probe at the inbound port would be an arrival a second
	}
	app := corev1.Container{
		Name: "app", Image: "app", Ports: containerPorts(8080, 8090), Lifecycle: hook("app"),
		Args:           append([]string{"serve", "--port=8080", "--mgmt-port=8090", "--startup-delay=0s"}, s.appArgs...),
		ReadinessProbe: httpProbe("/readyz", 8090),
	}
	spec := corev1.PodSpec{
		TerminationGracePeriodSeconds: &s.grace,
		Volumes: []corev1.Volume{
			{Name: "envoy", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "envoy"}}}},
			{Name: "run", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		},
	}
	switch s.shape {
	case classic:
		agent.Lifecycle = nil
		spec.Containers = []corev1.Container{app, proxy, agent}
	case nativeProxyFirst:
		agent.RestartPolicy, proxy.RestartPolicy = &always, &always
		spec.InitContainers, spec.Containers = []corev1.Container{proxy, agent}, []corev1.Container{app}
	default:
		agent.RestartPolicy, proxy.RestartPolicy = &always, &always
		spec.InitContainers, spec.Containers = []corev1.Container{agent, proxy}, []corev1.Container{app}
	}
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "pod"}, Spec: spec}
}

func (s setup) agentArgs() []string {
	args := []string{"run", "--grace-period=" + strconv.FormatInt(s.grace, 10) + "s"}
	if !s.noApp {
		args = append(args, "--app-source="+appMetrics)
	}
	switch s.shape {
	case classic:
		args = append(args, "--hooks=app,proxy")
	case nativeProxyFirst:
		args = append(args, "--outlives-me=proxy")
	case nativeAgentFirst:
	}
	return append(args, s.agent...)
}

func hook(name string) *corev1.Lifecycle {
	return &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{
		HTTPGet: &corev1.HTTPGetAction{Path: "/prestop/" + name, Port: intstr.FromInt32(agentPort)},
	}}
}

func httpProbe(path string, port int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(port)}},
		PeriodSeconds: 1,
	}
}

func containerPorts(list ...int32) (ports []corev1.ContainerPort) {
	for _, port := range list {
		ports = append(ports, corev1.ContainerPort{ContainerPort: port})
	}
	return ports
}
