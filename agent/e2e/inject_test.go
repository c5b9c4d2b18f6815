package e2e

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/drain-agent/drain-agent/agent/timeline"
	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

// A hook that the app had when drainctl inject came is run, and the drain happens: nothing is lost, the app goes first.
func TestInjectedPodRunsTheHookThatTheAppHad(t *testing.T) {
	drainctl := filepath.Join(t.TempDir(), "drainctl")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", drainctl, "../../deploy/drainctl").CombinedOutput(); err != nil {
		t.Fatalf("build drainctl: %v\n%s", err, out)
	}
	shell := func(command string) corev1.LifecycleHandler {
		return corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"/bin/sh", "-c", command}}}
	}
	for name, test := range map[string]struct {
		own   corev1.LifecycleHandler
		while func(u *under)                     // with the request in flight
		after func(u *under, answered time.Time) // when the pod is gone
	}{
		"exec meanwhile":          {own: shell("touch /run/drain-agent/left"), while: func(u *under) { u.shared("left") }},
		"exec that stops the app": {own: shell("touch /run/drain-agent/quit-now; nginx -s quit || true"), after: (*under).ranOnceLetGo},
		"httpGet": {
			own: corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/drain", Port: intstr.FromInt32(8090)}},
			while: func(u *under) {
				u.until("the app to be told", func() bool {
					return strings.Contains(get(u.t.Context(), http.DefaultClient, u.url(8090, "/inflight")).body, `"draining":true`)
				})
			},
		},
		"sleep": {own: corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 5}}, after: (*under).sleptLong},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := start(t, setup{manifest: func(p *corev1.Pod) { *p = injected(t, drainctl, p, test.own) }})
			long := u.background("/work?ms=3000")
			u.busy(1)
			u.Delete(nil)
			if test.while != nil {
				test.while(u)
			}
			select {
			case <-long:
				t.Fatal("the request ended too early to tell")
			default:
			}
			a := <-long
			u.mustServe("of three seconds", a)
			u.wait()
			if test.after != nil {
				test.after(u, a.at)
			}
			u.verdict("clean")
			u.inOrder("app hook_answered", "app sigterm", "proxy hook_answered", "proxy exited")
			if answered, _ := u.when("app", pod.HookAnswered); answered.Before(a.at) {
				t.Errorf("app's hook answered at %v, its request ended at %v", answered, a.at)
			}
		})
	}
}

func (u *under) ranOnceLetGo(answered time.Time) {
	u.t.Helper()
	info, err := os.Stat(u.shared("quit-now"))
	if err != nil {
		u.t.Fatal(err)
	}
	let := u.events()[u.eventIndex(func(e timeline.Event) bool { return e.Action == timeline.Answer("app") })].Time
	if ran := info.ModTime().Add(10 * time.Millisecond); ran.Before(answered) || ran.Before(let) { // the clock of files ticks so
		u.t.Errorf("ran at %v, the request ended at %v, the agent let the app go at %v", ran, answered, let)
	}
}

func (u *under) sleptLong(time.Time) {
	u.t.Helper()
	called, _ := u.when("app", pod.HookCalled)
	if let, _ := u.when("app", pod.HookAnswered); let.Sub(called) < 5*time.Second {
		u.t.Errorf("held for %v, the app's own hook slept 5 s", let.Sub(called))
	}
}

// injected is the pod as drainctl makes it from the one without agent and hooks, but for the app's own.
func injected(t *testing.T, drainctl string, p *corev1.Pod, own corev1.LifecycleHandler) (out corev1.Pod) {
	t.Helper()
	plain := p.DeepCopy()
	plain.APIVersion, plain.Kind = "v1", "Pod"
	plain.Spec.InitContainers = slices.DeleteFunc(plain.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == "agent" })
	proxy, app := containerOf(plain, "proxy"), containerOf(plain, "app")
	proxy.Lifecycle, proxy.ReadinessProbe, proxy.VolumeMounts = nil, nil, proxy.VolumeMounts[:1] // both ask the agent
	app.Lifecycle = &corev1.Lifecycle{PreStop: &own}
	app.Ports = containerPorts(8080, 8090)
	plain.Spec.Volumes = plain.Spec.Volumes[:1]
	text, err := yaml.Marshal(plain)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), drainctl, "inject", "-f", "-", "--image=agent", "--token=-", "--envoy-admin=http://127.0.0.1:15000", "--app-source="+appMetrics)
	var said strings.Builder
	cmd.Stdin, cmd.Stderr = strings.NewReader(string(text)), &said
	text, err = cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v: %s", cmd, err, said.String())
	}
	t.Log(said.String())
	if err := yaml.UnmarshalStrict(text, &out); err != nil {
		t.Fatal(err)
	}
	containerOf(&out, "drain-agent").Name = "agent" // as the other tests call it
	return out
}
