package e2e

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/drain-agent/drain-agent/agent/timeline"
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
	if kind := os.Getenv("FAKE_APP"); kind != "" {
		fakeApp(kind)
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
	dir, err := os.MkdirTemp("", "pod") // short: a Unix socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if s.manifest != nil {
		s.manifest(manifest)
	}
	p, err := pod.Start(t.Context(), manifest, pod.Options{
		Images:     map[string]string{"envoy": envoy, "agent": binaries.agent, "app": binaries.app, "fake": os.Args[0]},
		ConfigMaps: map[string]map[string]string{"envoy": {"envoy.yaml": bootstrap}},
		BackOff:    time.Second,
		Dir:        dir,
	})
	if err != nil {
		t.Fatal(err)
	}
	u := &under{Pod: p, t: t, dir: dir, istio: istio}
	t.Cleanup(func() {
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

// addr is where a port of the pod is reached.
func (u *under) addr(port int) string {
	return net.JoinHostPort(u.IP().String(), strconv.Itoa(u.Port(port)))
}

func (u *under) url(port int, path string) string { return "http://" + u.addr(port) + path }

// answer is what became of a request.
type answer struct {
	status int
	close  bool // the server said that it closes the connection
	body   string
	err    error
	at     time.Time
}

// fresh sends one request on a connection of its own and does not retry.
func (u *under) fresh(ctx context.Context, path string) answer {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: nil}}
	return get(ctx, client, u.url(inbound, path))
}

func get(ctx context.Context, client *http.Client, url string) (a answer) {
	defer func() { a.at = time.Now() }()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return answer{err: err}
	}
	reply, err := client.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(io.LimitReader(reply.Body, 1<<20))
	return answer{status: reply.StatusCode, close: reply.Close, body: string(body), err: err}
}

// background sends a request and returns where its answer will be.
func (u *under) background(path string) <-chan answer {
	done := make(chan answer, 1)
	go func() { done <- u.fresh(context.Background(), path) }()
	return done
}

// mustServe fails the test unless the answer is 200.
func (u *under) mustServe(name string, a answer) {
	u.t.Helper()
	if a.err != nil || a.status != http.StatusOK {
		u.t.Errorf("request %s: status %d, %v", name, a.status, a.err)
	}
}

// shared finds a file of the volume that all containers share.
func (u *under) shared(name string) string {
	u.t.Helper()
	var found string
	u.until("the file "+name, func() bool {
		_ = filepath.WalkDir(u.dir, func(path string, _ os.DirEntry, err error) error {
			if err == nil && filepath.Base(path) == name {
				found = path
			}
			return nil
		})
		return found != ""
	})
	return found
}

// admin asks Envoy over the Unix socket; the setup must say uds.
func (u *under) admin(path string) string {
	u.t.Helper()
	socket := u.shared(filepath.Base(adminSocket))
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}}
	return strings.TrimSpace(get(context.Background(), client, "http://envoy"+path).body)
}

// operate runs one of the agent's verbs against the pod's control socket.
func (u *under) operate(args ...string) string {
	u.t.Helper()
	cmd := exec.Command(binaries.agent, append(args, "--control="+u.shared("control.sock"))...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		u.t.Errorf("%v: %v: %s", args, err, out)
	}
	return string(out)
}

// call calls a hook as anybody can.
func (u *under) call(ctx context.Context, name string) answer {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: nil}}
	return get(ctx, client, u.url(agentPort, "/prestop/"+name))
}

// pause lets real time pass: something must not happen meanwhile.
func (u *under) pause(d time.Duration) {
	u.t.Helper()
	select {
	case <-time.After(d):
	case <-u.t.Context().Done():
		u.t.Fatal("interrupted")
	}
}

// happened counts the events of a container.
func (u *under) happened(container string, kind pod.Kind) (n int) {
	for _, e := range u.Events() {
		if e.Container == container && e.Kind == kind {
			n++
		}
	}
	return n
}

// metrics asks the agent for its metrics.
func (u *under) metrics() string {
	return get(context.Background(), &http.Client{Timeout: 5 * time.Second}, u.url(agentPort, "/metrics")).body
}

// status asks the agent for its status.
func (u *under) status() string {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: nil}, Timeout: 5 * time.Second}
	return get(context.Background(), client, u.url(agentPort, "/status")).body
}

// until waits for a condition of the pod, and fails the test after a while.
func (u *under) until(what string, holds func() bool) {
	u.t.Helper()
	deadline := time.After(40 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline:
			u.t.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}

// phase waits until the agent's timeline shows that the phase was entered, n times in all.
func (u *under) phase(name string, n int) {
	u.t.Helper()
	u.until(fmt.Sprintf("phase %s, %d times", name, n), func() bool {
		count := 0
		for _, e := range u.events() {
			if e.To == name && e.From != name {
				count++
			}
		}
		return count >= n
	})
}

// busy waits until Envoy has n requests in flight, as the agent will see them.
func (u *under) busy(n int) {
	u.t.Helper()
	client := &http.Client{Timeout: time.Second}
	u.until(fmt.Sprintf("%d requests in the app", n), func() bool {
		return strings.Contains(get(context.Background(), client, u.url(8090, "/metrics")).body, fmt.Sprintf("active_requests %d\n", n))
	})
}

// stop deletes the pod and waits for its end.
func (u *under) stop() {
	u.t.Helper()
	u.Delete(nil)
	u.wait()
}

func (u *under) wait() {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	if err := u.Wait(ctx); err != nil {
		u.t.Fatalf("pod did not end: %v", err)
	}
}

func (u *under) lines() (events []timeline.Event, verdicts []timeline.Verdict) {
	for line, err := range timeline.Decode(strings.NewReader(string(u.Log("agent")))) {
		switch {
		case err != nil:
		case line.Event != nil:
			events = append(events, *line.Event)
		case line.Verdict != nil:
			verdicts = append(verdicts, *line.Verdict)
		}
	}
	return events, verdicts
}

func (u *under) events() []timeline.Event { e, _ := u.lines(); return e }

// verdict returns the last verdict and fails the test when its outcome is another one.
func (u *under) verdict(outcome string) timeline.Verdict {
	u.t.Helper()
	_, verdicts := u.lines()
	if len(verdicts) == 0 {
		u.t.Fatalf("no verdict")
	}
	v := verdicts[len(verdicts)-1]
	if v.Outcome != outcome {
		u.t.Errorf("outcome %s, want %s: %s", v.Outcome, outcome, v.Reason)
	}
	return v
}

// when returns the time of the first event of that kind, and whether it happened.
func (u *under) when(container string, kind pod.Kind) (time.Time, bool) {
	events := u.Events()
	i := slices.IndexFunc(events, func(e pod.Event) bool { return e.Container == container && e.Kind == kind })
	if i < 0 {
		return time.Time{}, false
	}
	return events[i].Time, true
}

// lastWhen is when, of the last event.
func (u *under) lastWhen(container string, kind pod.Kind) (at time.Time, ok bool) {
	for _, e := range u.Events() {
		if e.Container == container && e.Kind == kind {
			at, ok = e.Time, true
		}
	}
	return at, ok
}

// inOrder fails the test unless these things happened one after the other: "container kind".
func (u *under) inOrder(steps ...string) {
	u.t.Helper()
	var last time.Time
	for _, step := range steps {
		container, kind, _ := strings.Cut(step, " ")
		at, ok := u.lastWhen(container, pod.Kind(kind))
		if !ok {
			u.t.Errorf("%s did not happen", step)
		} else if at.Before(last) {
			u.t.Errorf("%s came %v too early", step, last.Sub(at))
		}
		last = at
	}
}

// noCap fails the test when some phase ended because its time was over.
func (u *under) noCap() {
	u.t.Helper()
	for _, e := range u.events() {
		for _, cap := range []string{"did not end within", "quiet-max", "budget is over", "announce-max"} {
			if strings.Contains(e.Reason, cap) {
				u.t.Errorf("a cap was paid: %s", e.Reason)
			}
		}
	}
}

func (u *under) dump() {
	for _, e := range u.Events() {
		u.t.Log(e)
	}
	events, verdicts := u.lines()
	for _, e := range events {
		u.t.Log(e.Text())
	}
	for _, v := range verdicts {
		u.t.Log(v.Text())
	}
	for _, name := range []string{"proxy", "app"} {
		log := u.Log(name)
		u.t.Logf("--- %s\n%s", name, log[max(0, len(log)-1500):])
	}
}
