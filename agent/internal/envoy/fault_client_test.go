package envoy_test

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/internal/envoy"
)

// TestStaleConnection closes the pooled connection between two calls, as Envoy does when it drains: reads go on, actions are sent once.
func TestStaleConnection(t *testing.T) {
	t.Parallel()
	var posts atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			posts.Add(1)
			panic(http.ErrAbortHandler)
		}
		fake{}.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	c := connect(t, server.URL)
	describe(t, c)
	for range 3 {
		server.CloseClientConnections()
		if s := c.Sample(t.Context()); !s.InFlight.Known {
			t.Errorf("%+v", s)
		}
	}
	if err := c.FailHealthCheck(t.Context()); envoy.FailureOf(err) != envoy.Garbage || posts.Load() != 1 {
		t.Errorf("%v after %d calls", err, posts.Load())
	}
	if err := c.Quit(t.Context()); err != nil || posts.Load() != 2 {
		t.Errorf("quit that is answered by hanging up: %v after %d calls", err, posts.Load())
	}
}

func TestActionsReportTheStatus(t *testing.T) {
	t.Parallel()
	_, c := serve(t, nil) // 404 for every action
	for name, act := range map[string]func(context.Context) error{
		"fail": c.FailHealthCheck, "pass": c.PassHealthCheck, "quit": c.Quit,
		"drain": func(ctx context.Context) error { return c.DrainListeners(ctx, true) },
	} {
		if err := act(t.Context()); envoy.FailureOf(err) != envoy.Status || !strings.Contains(err.Error(), "404") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if ready, err := c.Ready(t.Context()); ready || envoy.FailureOf(err) != envoy.Status {
		t.Errorf("ready: %v, %v", ready, err)
	}
}

func TestNewRejects(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{
		"", "127.0.0.1:15000", "https://127.0.0.1:15000", "http://127.0.0.1", "http://:15000", "http://127.0.0.1:0", "http://127.0.0.1:70000",
		"http://127.0.0.1:15000/stats", "http://u:p@127.0.0.1:15000", "http://127.0.0.1:15000?x", "unix://admin.sock", "unix:///", "unix:", "http://[::1:15000", "%",
	} {
		if c, err := envoy.New(addr); err == nil || c != nil || !strings.Contains(err.Error(), "want http://HOST:PORT or unix:///PATH") {
			t.Errorf("%q: %v", addr, err)
		}
	}
	for _, addr := range []string{"http://127.0.0.1:15000", "http://localhost:9901/", "http://[::1]:15000", "unix:///run/admin.sock"} {
		if _, err := envoy.New(addr); err != nil {
			t.Errorf("%q: %v", addr, err)
		}
	}
}

// Where only the hosts count requests, that count is read each time, however old the rest is.
func TestRequestsOfHostsAreNew(t *testing.T) {
	t.Parallel()
	hidden := fake{"/stats": text("http.in.downstream_rq_active: 2\nlistener.0.0.0.0_8080.downstream_cx_total: 30\n")}
	server, c := serve(t, hidden)
	describe(t, c)
	before := c.Sample(t.Context())
	more := maps.Clone(hidden)
	more["/clusters"] = text(strings.ReplaceAll(oneRequest, `"7"`, `"9"`))
	server.use(more)
	after := c.Sample(t.Context())
	if before.Requests != drain.Known(7) || after.Requests != drain.Known(9) || after.StatsAge == 0 {
		t.Fatalf("%+v\n%+v", before, after)
	}
	if after.RequestsAge != 0 {
		t.Errorf("the hosts' count of just now is said to be %v old", after.RequestsAge)
	}
}
