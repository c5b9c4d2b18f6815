package envoytest_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/scripts/envoy/envoytest"
)

func app(t *testing.T) (port int) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "app saw %s over %s", r.URL.Path, r.Proto)
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().(*net.TCPAddr).Port
}

func get(t *testing.T, url string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body), resp.Header
}

func TestInboundOutboundAndTCPReachTheApp(t *testing.T) {
	t.Parallel()
	e := envoytest.Start(t, envoytest.Options{AppPort: app(t), Outbound: true, TCP: true, Health: "/healthz"})
	for _, listener := range []string{"inbound", "outbound", "tcp"} {
		if code, body, _ := get(t, "http://"+e.Listeners[listener]+"/x"); code != 200 || body != "app saw /x over HTTP/1.1" {
			t.Errorf("%s: %d %q", listener, code, body)
		}
	}
	if code, body, _ := get(t, "http://"+e.Inbound()+"/healthz"); code != 200 || strings.Contains(body, "app saw") {
		t.Errorf("health_check filter: %d %q, want 200 from Envoy itself", code, body)
	}
}

func TestTrafficDirectionIsLeftOutOnlyWhenUndirected(t *testing.T) {
	t.Parallel()
	for _, undirected := range []bool{false, true} {
		e := envoytest.Start(t, envoytest.Options{AppPort: app(t), Undirected: undirected})
		_, dump, err := e.Admin(t.Context(), http.MethodGet, "/config_dump?resource=static_listeners")
		if err != nil {
			t.Fatal(err)
		}
		if got := !strings.Contains(dump, `"traffic_direction": "INBOUND"`); got != undirected {
			t.Errorf("undirected %v, got %v:\n%s", undirected, got, dump)
		}
	}
}

func TestHideStatsKeepsOnlyServerStats(t *testing.T) {
	t.Parallel()
	for _, hide := range []bool{false, true} {
		e := envoytest.Start(t, envoytest.Options{AppPort: app(t), HideStats: hide})
		_, stats, err := e.Admin(t.Context(), http.MethodGet, "/stats")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(stats, "server.live") || strings.Contains(stats, "downstream_cx_active") == hide {
			t.Errorf("hide %v:\n%s", hide, stats)
		}
	}
}

func TestAdminOnAUnixSocket(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "uds") //nolint:usetesting // short: a socket's path holds 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "admin.sock")
	e := envoytest.Start(t, envoytest.Options{AppPort: app(t), AdminUDS: socket})
	if e.AdminURL != "unix://"+socket {
		t.Errorf("admin URL %q", e.AdminURL)
	}
}

func TestDrainFlagsAndStop(t *testing.T) {
	t.Parallel()
	e := envoytest.Start(t, envoytest.Options{AppPort: app(t), DrainStrategy: "immediate", DrainTime: 7 * time.Second})
	_, info, err := e.Admin(t.Context(), http.MethodGet, "/server_info")
	if err != nil || !strings.Contains(info, `"drain_strategy": "Immediate"`) || !strings.Contains(info, `"drain_time": "7s"`) {
		t.Errorf("%v: %s", err, info)
	}
	e.Stop()
	if e.ExitCode() != 0 || e.Log() == "" {
		t.Errorf("exit code %d, log %q", e.ExitCode(), e.Log())
	}
}
