package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

// Row 14: the admin on a Unix socket.
func TestAdminOnAUnixSocket(t *testing.T) {
	t.Parallel()
	oneLongRequest(t, setup{uds: true})
}

// Row 14: without an admin the agent runs in timer mode and says so loudly.
func TestTimerMode(t *testing.T) {
	t.Parallel()
	u := start(t, setup{agent: []string{"--envoy-admin=", "--quiet-max=3s"}})
	long := u.background("/work?ms=4000")
	u.busy(1)
	u.stop()
	u.mustServe("in flight", <-long)
	u.verdict("clean")
	said := false
	for _, e := range u.events() {
		said = said || e.Level == "warn" && strings.Contains(e.Reason, "timer mode")
	}
	if !said {
		t.Error("timer mode was not said")
	}
}

const fakeAdminPort = "16000"

// fakeAdmin answers as no Envoy does, for faults that a real one cannot be made to show.
func fakeAdmin(kind string) {
	handler := map[string]http.HandlerFunc{
		"403":     func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) },
		"500":     func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusInternalServerError) },
		"garbage": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{\"cluster_statuses\":[{]") },
		"endless": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, `{"cluster_statuses":[`)
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat(`{"name":"x"},`, 1000)); err != nil {
					return
				}
			}
		},
	}[kind]
	listener, err := net.Listen("tcp", "127.0.0.1:"+fakeAdminPort)
	if err == nil {
		err = http.Serve(listener, handler) //nolint:gosec // a test's fake
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// Row 14: an admin that answers nonsense is unknown, and unknown is never zero: the app is held until the budget is over.
func TestAdminAnswersNonsense(t *testing.T) {
	for _, kind := range []string{"403", "500", "garbage", "endless"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			u := start(t, setup{
				grace: 15, agent: []string{"--envoy-admin=http://127.0.0.1:" + fakeAdminPort, "--watch=app=port:8080"},
				manifest: func(p *corev1.Pod) {
					p.Spec.InitContainers[1].ReadinessProbe = nil // the agent cannot tell
					p.Spec.Containers = append(p.Spec.Containers, corev1.Container{
						Name: "fake", Image: "fake", Env: []corev1.EnvVar{{Name: "FAKE_ADMIN", Value: kind}},
						Lifecycle: hook("proxy"),
					})
				},
			})
			u.until("envoy serves", func() bool { return u.fresh(context.Background(), "/work?ms=1").status == http.StatusOK })
			u.stop()
			v := u.verdict("deadline")
			if v.HeldLongest != "proxy unreadable" {
				t.Errorf("held longest by %q", v.HeldLongest)
			}
			if held := u.held("app"); held < 5*time.Second {
				t.Errorf("app was let go after %v although nobody could read the proxy", held)
			}
			if u.happened("agent", pod.Sigkill) != 0 {
				t.Error("the agent was killed")
			}
			for _, e := range u.events() {
				if e.ProxyInFlight != nil {
					t.Errorf("an unreadable proxy was recorded as %d in flight", *e.ProxyInFlight)
				}
			}
		})
	}
}
