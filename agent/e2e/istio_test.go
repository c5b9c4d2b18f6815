package e2e

import (
	"bytes"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

//go:embed istio.yaml.tmpl
var istioTemplate string

// istioShape says whether the test of this name runs in a pod as Istio makes it, and where istio-proxy stands: Istio puts its own
// before everybody's, so the agent is never before it.
func istioShape(test string) (shape, bool) {
	switch {
	case !strings.HasPrefix(test, "TestIstio"):
		return "", false
	case strings.Contains(test, "/classic"):
		return classic, true
	}
	return nativeProxyFirst, true
}

// The agent's table, unchanged, in a pod as Istio makes it.
func TestIstioRows(t *testing.T) {
	rows := map[string]func(*testing.T){
		"3 told in time": TestGradualStrategyStillTellsEveryoneInTime, "3 undrain": TestUndrainRestoresKeepAlive,
		"4 one hook": TestOneHookIsAContainerRestart, "4 then all": TestPodStopWhileOneHookIsHeld, "5 agent alone": TestAgentAloneIsStopped,
		"6 envoy paused": TestEnvoyPausedInMidDrain, "6 metrics hang": TestAppMetricsHangWithRawTCPWork, "7 deaths": TestDeathInMidDrain,
		"8 endless request": TestRequestThatNeverEnds, "9 short grace": TestGraceShorterThanConfigured, "10 two steps": TestTwoStepClient,
	}
	for _, where := range []string{"native", "classic"} {
		for name, row := range rows {
			if where == "classic" && name == "9 short grace" {
				continue // a classic agent has its only SIGTERM at the beginning: nothing tells it that the grace is over
			}
			t.Run(where+" row "+name, row)
		}
		for _, version := range versions() {
			t.Run(where+" rows 1 and 2 on "+version, func(t *testing.T) {
				t.Parallel()
				handedOver(t, setup{version: version})
			})
		}
	}
}

// A job ends through the port of Istio's agent, native and classic.
func TestIstioJobs(t *testing.T) {
	for _, where := range []string{"native", "classic"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			u := start(t, setup{
				noApp: true, agent: []string{"--exit-with=app", "--watch=app=port:" + jobPort},
				manifest: func(p *corev1.Pod) { becomeJob(p, "success") },
			})
			u.wait()
			for _, container := range []string{"app", "proxy", "agent"} {
				if code := u.ExitCode(container); code != 0 {
					t.Errorf("%s ended with %d", container, code)
				}
			}
			if n := u.happened("agent", pod.Sigkill) + u.happened("proxy", pod.Sigkill); n != 0 {
				t.Error("somebody had to be killed")
			}
			u.verdict("clean")
		})
	}
}

// Istio's own conditions for its end cost nothing once it was told: neither its timer nor an idle connection that stays open.
func TestIstioEndsAtOnceWhenToldBefore(t *testing.T) {
	for _, where := range []string{"native", "classic"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			handedOver(t, setup{manifest: func(p *corev1.Pod) {
				proxy := containerOf(p, "proxy")
				proxy.Env = append(proxy.Env, corev1.EnvVar{Name: "EXIT_ON_ZERO_ACTIVE_CONNECTIONS", Value: "true"})
			}})
		})
	}
}

// The count of the app read through Istio's merged metrics.
func TestIstioMergedMetrics(t *testing.T) {
	t.Parallel()
	handedOver(t, setup{noApp: true, agent: []string{"--app-source=prometheus:http://127.0.0.1:15020/stats/prometheus#active_requests"}})
}

// What it costs when nobody tells Istio's agent: the measure for the test above.
func TestIstioNotTold(t *testing.T) {
	t.Parallel()
	u := start(t, setup{agent: []string{"--proxy=envoy"}})
	u.stop()
	if cost := u.end("proxy"); cost < istioDrain {
		t.Errorf("istio-proxy ended %v after SIGTERM: the stand-in does not wait, so the other tests show nothing", cost)
	}
	if log := string(u.Log("proxy")); !strings.Contains(log, "drains for itself") {
		t.Errorf("the stand-in was told: %s", log)
	}
}

func handedOver(t *testing.T, s setup) {
	t.Helper()
	u := oneLongRequest(t, s)
	var told time.Time
	for _, e := range u.events() {
		if e.To == "draining" && e.ProxyInFlight != nil && e.ProxyRung != "clusters" {
			t.Errorf("rung %q while draining, want clusters", e.ProxyRung)
		}
		if strings.Contains(e.Action, "handover") {
			told = e.Time
			if e.Result != "ok" {
				t.Errorf("handover: %s", e.Result)
			}
		}
	}
	answered, _ := u.when("proxy", pod.HookAnswered)
	if told.IsZero() || told.After(answered) {
		t.Errorf("istio was told at %v, its hook was answered at %v", told, answered)
	}
	if log := string(u.Log("proxy")); !strings.Contains(log, "ends at once") {
		t.Errorf("istio-proxy: %s", log[max(0, len(log)-500):])
	}
	if cost := u.end("proxy"); cost > istioDrain/2 {
		t.Errorf("istio-proxy ended %v after SIGTERM", cost)
	}
	if log := string(u.Log("agent")); !strings.Contains(log, "owner istio (node id sidecar~") {
		t.Error("the timeline does not say who owns the envoy")
	}
}

// end is the time from a container's SIGTERM to its end.
func (u *under) end(container string) time.Duration {
	sigterm, _ := u.when(container, pod.Sigterm)
	exited, _ := u.when(container, pod.Exited)
	return exited.Sub(sigterm)
}

// excluded are the ports that Istio leaves alone, and those of the annotation traffic.sidecar.istio.io/excludeInboundPorts.
const excluded = "15020,15021,15090,9909,8090"

// becomeIstio turns the pod into one as Istio's injector makes it, and returns the bootstrap. Traffic comes to Envoy by iptables;
// where the machine has none, straight to its port.
func (s setup) becomeIstio(t *testing.T, p *corev1.Pod, envoy string) string {
	t.Helper()
	iptables, err := exec.LookPath("iptables")
	redirect := err == nil && os.Geteuid() == 0
	values := struct {
		Inbound, App, TCP    int
		Ports                []int
		Redirect, ExitOnZero bool
		UDS                  string
	}{Inbound: inbound, App: 8080, Ports: []int{8080}, Redirect: redirect, ExitOnZero: strings.Contains(t.Name(), "EndsAtOnce")}
	if redirect {
		values.Inbound, values.App, values.Ports = 15006, inbound, []int{inbound}
		app := containerOf(p, "app")
		for i, arg := range app.Args {
			app.Args[i] = strings.Replace(arg, "--port=8080", fmt.Sprintf("--port=%d", inbound), 1)
		}
		app.Ports = containerPorts(inbound, 8090)
		initial := corev1.Container{Name: "istio-init", Image: "istio-init", Command: []string{
			iptables, "-t", "nat", "-A", "PREROUTING", "-p", "tcp", "-m", "multiport", "!", "--dports", excluded, "-j", "REDIRECT", "--to-ports", "15006",
		}}
		p.Spec.InitContainers = append([]corev1.Container{initial}, p.Spec.InitContainers...)
	}
	if s.envoy.TCP {
		values.TCP, values.Ports = tcpPort, append(values.Ports, tcpPort)
	}
	if s.uds {
		values.UDS = adminSocket
	}
	proxy := containerOf(p, "proxy")
	proxy.Image = "fake"
	proxy.Args = append(proxy.Args, "--drain-time-s", "45")
	proxy.Ports = containerPorts(15006, 15020, 15021, 15090, 15000)
	proxy.Env = append(proxy.Env, corev1.EnvVar{Name: "FAKE_PILOT", Value: envoy}, corev1.EnvVar{Name: "FAKE_PILOT_ADMIN", Value: values.UDS})
	var text bytes.Buffer
	if err := template.Must(template.New("istio").Parse(istioTemplate)).Execute(&text, values); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

func containerOf(p *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// signalEnvoy signals the Envoy that Istio's agent runs, not that agent.
func (u *under) signalEnvoy(sig syscall.Signal) {
	u.t.Helper()
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", u.Pid("proxy")))
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for child := range strings.FieldsSeq(string(text)) {
			var pid int
			if _, err := fmt.Sscan(child, &pid); err == nil {
				if err := syscall.Kill(pid, sig); err != nil {
					u.t.Fatal(err)
				}
				return
			}
		}
	}
	u.t.Fatal("istio's agent runs no envoy")
}
