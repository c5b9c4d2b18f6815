package pod_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

// The test binary is also the program of every container of the tests (FAKE is set), and a program that crashes while
// a pod runs (CRASH is set).
func TestMain(m *testing.M) {
	elsewhere(pod.Helper)
	switch {
	case os.Getenv("FAKE") != "":
		fake()
	case os.Getenv("CRASH") != "":
		crash()
	default:
		os.Exit(m.Run())
	}
}

// elsewhere calls f on another thread than the process's first: on a busy machine main's goroutine may be there too.
func elsewhere(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var other sync.WaitGroup
	other.Go(f)
	other.Wait()
}

// fake is a container that does what its environment says:
//
//	LISTEN     address of its HTTP server
//	HOLD_NAME  how long GET /prestop/NAME is held: a duration, or port:N to wait until nobody listens on loopback's N
//	EXIT       exit code after EXIT_AFTER
//	ON_TERM    what SIGTERM does: a duration until it exits (default 0s), or ignore
//
// GET /fail makes every later GET /healthz answer 503; GET /exit ends the process.
func fake() {
	terms := make(chan os.Signal, 1)
	signal.Notify(terms, syscall.SIGTERM)
	if address := os.Getenv("LISTEN"); address != "" {
		go func() { fmt.Println(http.ListenAndServe(address, fakeHandler())) }()
	}
	if message := os.Getenv("MESSAGE"); message != "" {
		if err := os.WriteFile(os.Getenv("MESSAGE_PATH"), []byte(message), 0o600); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println("args", os.Args[1:])
	if code := os.Getenv("EXIT"); code != "" {
		after, _ := time.ParseDuration(os.Getenv("EXIT_AFTER"))
		time.AfterFunc(after, func() {
			n, _ := strconv.Atoi(code)
			os.Exit(n)
		})
	}
	<-terms
	fmt.Println("sigterm")
	if os.Getenv("ON_TERM") == "ignore" {
		select {}
	}
	delay, _ := time.ParseDuration(os.Getenv("ON_TERM"))
	<-time.After(delay)
	os.Exit(0)
}

func fakeHandler() http.Handler {
	var failing atomic.Bool
	mux := http.NewServeMux()
	mux.HandleFunc("/prestop/{name}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("hook", r.PathValue("name"), r.UserAgent(), r.Header.Get("Drain-Agent-Token"), r.Host)
		hold(os.Getenv("HOLD_" + r.PathValue("name")))
		w.WriteHeader(http.StatusServiceUnavailable) // kubelet does not care
	})
	mux.HandleFunc("/fail", func(http.ResponseWriter, *http.Request) { failing.Store(true) })
	mux.HandleFunc("/exit", func(http.ResponseWriter, *http.Request) { os.Exit(5) })
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if failing.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	return mux
}

func hold(what string) {
	port, isPort := strings.CutPrefix(what, "port:")
	if !isPort {
		d, _ := time.ParseDuration(what)
		<-time.After(d)
		return
	}
	for range time.Tick(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			return
		}
		conn.Close()
	}
}

type env map[string]string

// fakeContainer returns a container that runs [fake]; a port of 0 gives it no server.
func fakeContainer(name string, port int32, variables env) corev1.Container {
	c := corev1.Container{Name: name, Image: "fake", Env: []corev1.EnvVar{{Name: "FAKE", Value: name}}}
	if port != 0 {
		c.Ports = []corev1.ContainerPort{{Name: "main", ContainerPort: port}}
		c.Env = append(c.Env, corev1.EnvVar{Name: "LISTEN", Value: fmt.Sprintf(":%d", port)})
		c.ReadinessProbe = health(port)
	}
	for _, key := range slices.Sorted(maps.Keys(variables)) {
		c.Env = append(c.Env, corev1.EnvVar{Name: key, Value: variables[key]})
	}
	return c
}

// agentPort is where the fake agent of the tests answers hooks.
const agentPort = 9909

func hooked(c corev1.Container) corev1.Container {
	c.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{
		Path: "/prestop/" + c.Name, Port: intstr.FromInt32(agentPort),
		HTTPHeaders: []corev1.HTTPHeader{{Name: "Drain-Agent-Token", Value: "secret"}},
	}}}
	return c
}

func native(c corev1.Container) corev1.Container {
	c.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
	return c
}

// health returns a probe of /healthz once a second that gives up at the first failure.
func health(port int32) *corev1.Probe {
	return &corev1.Probe{
		PeriodSeconds: 1, FailureThreshold: 1,
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(port)}},
	}
}

// patient returns a probe that forgives a slow start.
func patient(probe *corev1.Probe) *corev1.Probe {
	probe.FailureThreshold = 20
	return probe
}

func manifest(graceSeconds int64, init []corev1.Container, regular ...corev1.Container) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "sim"},
		Spec:       corev1.PodSpec{TerminationGracePeriodSeconds: &graceSeconds, InitContainers: init, Containers: regular},
	}
}

// run starts the pod; the test's end kills it.
func run(t *testing.T, m *corev1.Pod) *pod.Pod {
	t.Helper()
	return runWith(t, m, pod.Options{})
}

func runWith(t *testing.T, m *corev1.Pod, options pod.Options) *pod.Pod {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	options.Images = map[string]string{"fake": self}
	p, err := pod.Start(context.Background(), m, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Close()
		if t.Failed() {
			for _, e := range p.Events() {
				t.Log(e)
			}
		}
	})
	return p
}

// until waits, at most 30 s, for the condition to hold for the pod's events.
func until(t *testing.T, p *pod.Pod, what string, holds func([]pod.Event) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := p.WaitFor(ctx, what, holds); err != nil {
		t.Fatal(err)
	}
}

// eventually asks every 20 ms for what makes no event, at most 30 s.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func ready(t *testing.T, p *pod.Pod) {
	t.Helper()
	until(t, p, "ready", func(events []pod.Event) bool { return has(events, "", pod.PodReady) })
}

func finished(t *testing.T, p *pod.Pod) []pod.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	if err := p.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	return p.Events()
}

func has(events []pod.Event, container string, kind pod.Kind) bool {
	return count(events, container, kind) > 0
}

func count(events []pod.Event, container string, kind pod.Kind) (n int) {
	for _, e := range events {
		if e.Container == container && e.Kind == kind {
			n++
		}
	}
	return n
}

// at returns when the n-th event of its kind came, from 1, since Start.
func at(t *testing.T, events []pod.Event, container string, kind pod.Kind, n int) time.Duration {
	t.Helper()
	for _, e := range events {
		if e.Container == container && e.Kind == kind {
			if n--; n == 0 {
				return e.Elapsed
			}
		}
	}
	t.Fatalf("%s has no such %s", container, kind)
	return 0
}

// inOrder fails unless the events, written "container kind", come in this order.
func inOrder(t *testing.T, events []pod.Event, want ...string) {
	t.Helper()
	rest := want
	for _, e := range events {
		if len(rest) > 0 && strings.TrimSpace(e.Container+" "+string(e.Kind)) == rest[0] {
			rest = rest[1:]
		}
	}
	if len(rest) > 0 {
		t.Errorf("%q does not come after those before it in %q", rest[0], want)
	}
}

// between fails unless the duration lies in the range; the upper end allows for a busy machine.
func between(t *testing.T, what string, got, low, high time.Duration) {
	t.Helper()
	if got < low || got > high {
		t.Errorf("%s after %v, want %v to %v", what, got, low, high)
	}
}

func call(t *testing.T, p *pod.Pod, port int, path string) {
	t.Helper()
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get(
		"http://" + net.JoinHostPort(p.IP().String(), strconv.Itoa(p.Port(port))) + path)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}
