package e2e

import (
	_ "embed"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

// meshGroup is the group of istio-proxy, whose own traffic is not redirected.
const meshGroup = 1337

//go:embed testdata/caller.py
var caller string

// redirectOutbound sends what leaves the pod's containers to Envoy's port 15001, as Istio's init container does.
func redirectOutbound(p *corev1.Pod) {
	rule := strings.Fields("iptables -t nat -A OUTPUT -p tcp ! -d 127.0.0.0/8 -m owner ! --gid-owner " + fmt.Sprint(meshGroup) + " -j REDIRECT --to-ports 15001")
	initial := corev1.Container{Name: "istio-init-outbound", Image: "istio-init", Command: rule}
	p.Spec.InitContainers = append([]corev1.Container{initial}, p.Spec.InitContainers...)
	containerOf(p, "proxy").SecurityContext = &corev1.SecurityContext{RunAsUser: new(int64(0)), RunAsGroup: new(int64(meshGroup))}
}

// The app's calls to others leave through Envoy too. They go on, on the connection that they have, until the app is let go.
func TestIstioOutboundGoesOn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to redirect a pod's traffic")
	}
	for _, where := range []string{"native", "classic"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			var calls, connections atomic.Int64
			other := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
			other.Config.ConnState = func(_ net.Conn, s http.ConnState) {
				if s == http.StateNew {
					connections.Add(1)
				}
			}
			all, err := net.Listen("tcp", ":0")
			if err != nil {
				t.Fatal(err)
			}
			other.Listener.Close()
			other.Listener = all
			other.Start()
			defer other.Close()
			_, port, _ := net.SplitHostPort(all.Addr().String())

			u := start(t, setup{uds: true, manifest: func(p *corev1.Pod) {
				redirectOutbound(p)
				p.Spec.Containers = append(p.Spec.Containers, corev1.Container{
					Name: "caller", Image: "caller", Command: []string{"python3", "-u", "-c", caller, port}, Lifecycle: hook("app"),
					Env: []corev1.EnvVar{{Name: "POD_IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}}},
				})
			}})
			long := u.background("/work?ms=5000")
			u.busy(1)
			u.until("ten calls out", func() bool { return calls.Load() >= 10 })
			if clusters := u.admin("/clusters"); !strings.Contains(clusters, "PassthroughCluster::"+u.IP().Prev().String()+":"+port+"::cx_active::1") {
				t.Errorf("the calls do not leave through Envoy:\n%s", clusters)
			}
			u.stop()
			u.mustServe("of 5 s", <-long)
			u.verdict("clean")
			log := strings.TrimSpace(string(u.Log("caller")))
			if log != "told to stop" {
				t.Errorf("the caller says %q", log)
			}
			if n := connections.Load(); n != 1 {
				t.Errorf("%d connections to the other service, want the one it began with", n)
			}
			answered, _ := u.when("app", pod.HookAnswered)
			if begin, _ := u.when("", pod.T0); answered.Sub(begin) < 4*time.Second || calls.Load() < 40 {
				t.Errorf("%d calls, the app was let go after %v", calls.Load(), answered.Sub(begin))
			}
		})
	}
}

// Row 9 for a classic pod: with a hook of its own the agent learns from SIGTERM that the grace is over, as a native one does.
func TestIstioGraceShorterThanConfigured(t *testing.T) {
	t.Run("classic with the agent's own hook", func(t *testing.T) {
		t.Parallel()
		u := start(t, setup{appArgs: []string{"--stop-timeout=60s"}, manifest: func(p *corev1.Pod) {
			agent := containerOf(p, "agent")
			agent.Lifecycle = hook("agent")
			i := slices.Index(agent.Args, "--hooks=app,proxy")
			agent.Args[i] += ",agent"
		}})
		endless := u.background("/work?ms=600000")
		u.busy(1)
		u.Delete(new(4 * time.Second))
		u.wait()
		<-endless
		v := u.verdict("deadline")
		if !strings.Contains(v.Reason, "grace was ") || !strings.Contains(v.Reason, "configured 30s") {
			t.Errorf("reason %q", v.Reason)
		}
		if n := u.happened("agent", pod.Sigkill); n != 0 {
			t.Errorf("the agent was killed %d times", n)
		}
	})
}
