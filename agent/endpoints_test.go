package main

import (
	"context"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/drain-agent/drain-agent/agent/internal/conductor"
	"github.com/drain-agent/drain-agent/agent/internal/server"
	"github.com/drain-agent/drain-agent/agent/timeline"
)

// endpoint is a row of docs/reference/endpoints.md, and a call that TestEndpoints makes.
type endpoint struct {
	face         string // "port" or "socket"
	method, path string
	body         string
	status       int
	answer       string // words of the page
	contains     string // of the body
	pattern      string // how the code registers it
	in           string // phase that must be reached before the call
}

func endpoints() []endpoint {
	const port, socket = "port", "socket"
	return []endpoint{
		{port, "GET", "/prestop/app", "", 200, "held until the container may be stopped; then `container`, `held_ms`, `phase`, `outcome`. An unknown name is held too and counted", `"container":"app"`, "/prestop/{container...}", ""},
		{port, "GET", "/prestop", "", 200, "the same for a hook without a name: an unknown one", `"phase"`, "/prestop", ""},
		{port, "POST", "/prestop/app", "", 405, "a hook is called with GET; nothing happens", "GET", "/prestop/{container...}", ""},
		{port, "GET", "/startupz", "", 200, "always, once the port is open; it does not wait for Envoy", "ok", "GET /startupz", ""},
		{port, "GET", "/startupz/proxy", "", 503, "200 once Envoy's `/ready` says so, 503 before: the proxy's own startup probe", "proxy", "GET /startupz/{check}", ""},
		{port, "GET", "/livez", "", 200, "the agent runs; depends on neither app nor Envoy, nor on the phase", "ok", "GET /livez", ""},
		{port, "GET", "/readyz", "", 200, "503 in maintenance, and on a pod stop as `--fail-readiness` says", "ok", "GET /readyz", "serving"},
		{port, "GET", "/readyz?verbose", "", 200, "every check on a line: `[+]name ok`, `[-]name failed: why`", "[+]drain ok", "GET /readyz", "serving"},
		{port, "GET", "/readyz/nothing", "", 404, "a check that does not exist", "no such check", "GET /readyz/{check}", ""},
		{port, "GET", "/syntheticz", "", 200, "the agent has no synthetic checks", "ok", "GET /syntheticz", ""},
		{port, "GET", "/metrics", "", 200, "[metrics](metrics.md)", "drain_agent_phase", "GET /metrics", ""},
		{port, "GET", "/status", "", 200, "JSON: phase, time left, readings, hooks, the newest 64 events (`?before=SEQ`: those before), verdict; read-only", `"phase":"serving"`, "GET /status", "serving"},
		{port, "POST", "/drain", `{"reason":"x"}`, 404, "the operator's verbs are not on the port", "", "", ""},
		{port, "GET", "/", "", 404, "everything else, Envoy's admin paths included: nothing is forwarded to anybody", "", "/", ""},
		{socket, "GET", "/prestop/app", "", 200, "as on the port; what `drain-agent hook app` calls. Any peer that may open the socket", `"container":"app"`, "/prestop/{container...}", ""},
		{socket, "GET", "/status", "", 200, "as on the port; the agent's own UID and root", `"phase"`, "GET /status", ""},
		{socket, "POST", "/drain", `{"reason":"upgrade"}`, 200, "into maintenance; the agent's own UID and root", `"message"`, "POST /drain", "serving"},
		{socket, "POST", "/undrain", `{"reason":"done"}`, 200, "back; the agent's own UID and root", `"message"`, "POST /undrain", "maintenance"},
		{socket, "POST", "/finish", `{"reason":"enough"}`, 409, "ends a drain under way, 409 when there is none; the agent's own UID and root", `"error"`, "POST /finish", "serving"},
		{socket, "POST", "/drain", `{"why":"x"}`, 400, "a request that is not `{\"reason\":\"…\"}` is not carried out", "reason", "POST /drain", ""},
	}
}

type healthService struct {
	name string
	want grpc_health_v1.HealthCheckResponse_ServingStatus
	code codes.Code
	says string
}

func healthServices() []healthService {
	const serving = grpc_health_v1.HealthCheckResponse_SERVING
	return []healthService{
		{"", serving, codes.OK, "as `readiness`"},
		{"liveness", serving, codes.OK, "as `/livez`"},
		{"readiness", serving, codes.OK, "as `/readyz`"},
		{"startup", serving, codes.OK, "as `/startupz`"},
		{"synthetic-readiness", serving, codes.OK, "as `/syntheticz`"},
		{"anything.else", 0, codes.NotFound, "`Check` answers NOT_FOUND, `Watch` SERVICE_UNKNOWN"},
	}
}

func endpointsPage() string {
	faces := map[string]*table{}
	for _, e := range endpoints() {
		if faces[e.face] == nil {
			faces[e.face] = newTable("call", "status", "answer")
		}
		faces[e.face].row(code(e.method+" "+e.path), strconv.Itoa(e.status), e.answer)
	}
	health := newTable("service", "answer")
	for _, s := range healthServices() {
		health.row(code(strconv.Quote(s.name)), s.says)
	}
	return `# Endpoints

The status is what an idle agent answers whose Envoy is not there; a test makes every one of these calls.

## Hook port: ` + "`--listen`, `:9909`" + `

HTTP/1.1 on the pod's address, for kubelet: no authentication, nothing that cannot be undone ([threats](../explanation/threats.md)).
The header ` + "`" + server.TokenHeader + "`" + ` with the content of ` + "`--token-file`" + ` makes a hook call authentic; a wrong one is no error.
Hooks have no timeout; a caller that hangs up changes nothing.

` + faces["port"].String() + `gRPC health (` + "`grpc.health.v1.Health`" + `: Check, List, Watch) on the same port, HTTP/2 without TLS:

` + health.String() + `## Control socket: ` + "`--control`, `/run/drain-agent/control.sock`" + `

HTTP/1.1 on a Unix socket, mode 0660. The kernel tells the peer's UID: operator verbs are for the agent's own UID and root, everybody else gets 403.

` + faces["socket"].String()
}

// Every row of the page is called on a real server, in the order of the page.
func TestEndpoints(t *testing.T) {
	addr, socket := startAgent(t)
	for _, e := range endpoints() {
		t.Run(e.face+" "+e.method+" "+e.path, func(t *testing.T) {
			if e.in != "" {
				phase(t, addr, e.in)
			}
			network, to := "tcp", addr
			if e.face == "socket" {
				network, to = "unix", socket
			}
			client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, to)
			}}}
			req, err := http.NewRequestWithContext(t.Context(), e.method, "http://agent"+e.path, strings.NewReader(e.body))
			if err != nil {
				t.Fatal(err)
			}
			reply, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer reply.Body.Close()
			body, err := io.ReadAll(reply.Body)
			if err != nil || reply.StatusCode != e.status || !strings.Contains(string(body), e.contains) {
				t.Errorf("%s %s: %s, %v\nwant %d and %q", reply.Status, body, reply.Header, err, e.status, e.contains)
			}
		})
	}
}

// phase waits until the agent is in it.
func phase(t *testing.T, addr, name string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(20 * time.Second); ; {
		var st conductor.Status
		reply, err := http.Get("http://" + addr + "/status")
		if err == nil {
			err = errors.Join(json.NewDecoder(reply.Body).Decode(&st), reply.Body.Close())
		}
		if err == nil && st.Phase == name {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for phase %s: %s, %v", name, st.Phase, err)
		}
	}
}

func TestHealthServices(t *testing.T) {
	addr, _ := startAgent(t)
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, s := range healthServices() {
		reply, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: s.name})
		if status.Code(err) != s.code || reply.GetStatus() != s.want {
			t.Errorf("%q: %v, %v; want %v", s.name, reply.GetStatus(), err, s.want)
		}
	}
}

// A route that the page does not have, and a page that names a route that is gone, are told.
func TestEveryRouteIsOnThePage(t *testing.T) {
	var documented []string
	for _, e := range endpoints() {
		if e.pattern != "" && !slices.Contains(documented, e.pattern) {
			documented = append(documented, e.pattern)
		}
	}
	for _, pattern := range routes(t) {
		i := slices.Index(documented, pattern)
		if i < 0 && !strings.HasPrefix(pattern, "GET /livez/") && !strings.HasPrefix(pattern, "GET /syntheticz/") { // no such checks in the agent
			t.Errorf("the route %q has no row", pattern)
		}
		if i >= 0 {
			documented = slices.Delete(documented, i, i+1)
		}
	}
	if len(documented) > 0 {
		t.Errorf("rows without a route: %q", documented)
	}
}

// routes reads the patterns from the source: those of the server, and those of the probes with their computed parts filled in.
func routes(t *testing.T) (patterns []string) {
	t.Helper()
	files, err := filepath.Glob("internal/server/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, "../probes/http.go") {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && len(call.Args) == 2 {
				if sel, ok := call.Fun.(*ast.SelectorExpr); ok && (sel.Sel.Name == "Handle" || sel.Sel.Name == "HandleFunc") {
					patterns = append(patterns, spelt(t, call.Args[0])...)
				}
			}
			return true
		})
	}
	slices.Sort(patterns)
	return slices.Compact(patterns)
}

// spelt evaluates a pattern: a literal, or literals joined with the variables verb and path.
func spelt(t *testing.T, e ast.Expr) []string {
	t.Helper()
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		if err != nil {
			t.Fatal(err)
		}
		return []string{text}
	case *ast.Ident:
		switch e.Name {
		case "verb":
			return []string{"drain", "undrain", "finish"}
		case "path":
			return []string{"/startupz", "/livez", "/readyz", "/syntheticz"}
		}
	case *ast.BinaryExpr:
		var joined []string
		for _, left := range spelt(t, e.X) {
			for _, right := range spelt(t, e.Y) {
				joined = append(joined, left+right)
			}
		}
		return joined
	}
	t.Fatalf("a route that this test cannot read: %T", e)
	return nil
}

// startAgent runs the whole agent but its process, without an Envoy.
func startAgent(t *testing.T) (addr, socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "control.sock")
	c, err := load(defaults(t, "--listen=127.0.0.1:0", "--control="+socket, "--envoy-admin=http://127.0.0.1:1", "--confirm-window=10ms", "--restart-max=20ms"))
	if err != nil {
		t.Fatal(err)
	}
	say := func(text string) { t.Error(text) }
	metrics := server.NewMetrics(metricsOptions(c))
	w := newWires(c)
	t.Cleanup(w.close)
	agent := conductor.New(conductor.Config{
		Policy: c.policy, World: w.world(), Recorder: timeline.NewRecorder(func(timeline.Line) {}, func(timeline.Line) {}), Metrics: metrics, Poll: 25 * time.Millisecond,
	})
	f, err := newFaces(c, w, agent, metrics, say)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.server.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		agent.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		f.close()
	})
	return f.server.Addr().String(), socket
}
