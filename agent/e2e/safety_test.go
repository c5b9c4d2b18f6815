package e2e

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/agent/timeline"
	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

const tokenHeader = "Drain-Agent-Token"

// untouched fails the test when Envoy was changed for good, or is changed still.
func (u *under) untouched() {
	u.t.Helper()
	for _, e := range u.events() {
		if strings.Contains(e.Action, "drain_listeners") || strings.Contains(e.Action, "quit") {
			u.t.Errorf("something was done that cannot be undone: %s", e.Action)
		}
	}
	u.until("envoy to be live", func() bool { return u.admin("/ready") == "LIVE" })
	if text := u.admin("/stats?filter=^listener_manager.total_listeners_draining$"); !strings.HasSuffix(text, " 0") {
		u.t.Errorf("listeners drain: %s", text)
	}
	u.servesAsBefore()
}

func (u *under) servesAsBefore() {
	u.t.Helper()
	if a := u.keepAlive("/work?ms=1"); a.err != nil || a.status != http.StatusOK || a.close {
		u.t.Errorf("envoy does not serve as before: %+v", a)
	}
	if n := u.happened("proxy", pod.Exited) + u.happened("agent", pod.Exited) + u.happened("app", pod.Exited); n != 0 {
		u.t.Errorf("%d containers ended", n)
	}
}

// Anybody who can reach the port: one caller changes nothing, many callers under every name, with forged tokens, again and again,
// change nothing that is not undone. The real stop afterwards is clean.
func TestNobodyDoesWhatCannotBeUndone(t *testing.T) {
	for name, callers := range map[string][]string{
		"one":  {"app"},
		"many": {"app", "proxy", "agent", "envoy", "", "%2e%2e", "app"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := start(t, setup{uds: true, agent: []string{"--token-file=/run/drain-agent/token", "--stop=app=500ms", "--stop=proxy=500ms"}})
			u.writeToken("right")
			for range 2 {
				var all sync.WaitGroup
				for i := range 5 * len(callers) {
					all.Go(func() {
						u.mustServe("hook", u.callWith(callers[i%len(callers)], []string{"", "wrong", "righ", "right ."}[i%4]))
					})
					if name == "one" {
						break
					}
				}
				all.Wait()
				u.until("the agent to serve again", func() bool { return strings.Contains(u.status(), `"phase":"serving"`) })
				u.untouched()
			}
			if name == "one" {
				for _, e := range u.events() {
					if e.Action == "healthcheck_fail" {
						t.Error("one caller changed envoy")
					}
				}
			}
			long := u.background("/work?ms=2000")
			u.busy(1)
			u.stop()
			u.mustServe("in the real stop", <-long)
			u.verdict("clean")
		})
	}
}

func (u *under) writeToken(token string) {
	u.t.Helper()
	path := filepath.Join(filepath.Dir(u.shared("control.sock")), "token")
	if err := os.WriteFile(path, []byte(token+"\n"), 0o644); err != nil {
		u.t.Fatal(err)
	}
}

func (u *under) callWith(container, token string) (a answer) {
	req, err := http.NewRequest(http.MethodGet, u.url(agentPort, "/prestop/"+container), http.NoBody)
	if err != nil {
		return answer{err: err}
	}
	req.Header.Set(tokenHeader, token)
	reply, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: nil}}).Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	return answer{status: reply.StatusCode, body: string(body), err: err}
}

// The token in the hooks' header allows drain_listeners before SIGTERM; without the right one the reversible lever is used.
func TestTokenAllowsWhatCannotBeUndone(t *testing.T) {
	for token, right := range map[string]bool{"right": true, "wrong": false} {
		t.Run(token, func(t *testing.T) {
			t.Parallel()
			u := start(t, setup{
				uds: true, agent: []string{"--token-file=/run/drain-agent/token"},
				manifest: func(p *corev1.Pod) {
					for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
						for i := range list {
							list[i].Lifecycle.PreStop.HTTPGet.HTTPHeaders = []corev1.HTTPHeader{{Name: tokenHeader, Value: token}}
						}
					}
				},
			})
			u.writeToken("right")
			long := u.background("/work?ms=4000")
			u.busy(1)
			u.Delete(nil)
			u.phase("draining", 1)
			lever := map[bool]string{true: "drain_listeners", false: "healthcheck_fail"}
			u.until(lever[right], func() bool { return u.acted(lever[right]) })
			if ready := u.admin("/ready"); (ready == "LIVE") != right {
				t.Errorf("envoy is %s", ready)
			}
			if a := u.keepAlive("/work?ms=1"); !a.close {
				t.Error("envoy does not tell its clients to leave")
			}
			u.mustServe("in flight", <-long)
			u.wait()
			u.verdict("clean")
			if u.acted(lever[!right]) {
				t.Errorf("%s was done", lever[!right])
			}
		})
	}
}

// Not even where the agent is to quit Envoy at the end: strangers do not make it.
func TestStrangersDoNotQuitEnvoy(t *testing.T) {
	t.Parallel()
	u := start(t, setup{uds: true, agent: []string{"--quit-proxy=true", "--stop=app=500ms", "--stop=proxy=500ms"}})
	var all sync.WaitGroup
	for _, name := range []string{"app", "proxy", "agent"} {
		all.Go(func() { u.mustServe("hook", u.callWith(name, "")) })
	}
	all.Wait()
	u.phase("serving", 1)
	u.untouched()
	u.verdict("aborted")
}

// smuggled are requests that mean to reach Envoy's admin, or a verb, through the hook port.
func smuggled() map[string]string {
	const host = "Host: 127.0.0.1:15000\r\n"
	quit := "POST /quitquitquit HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n"
	return map[string]string{
		"the admin's own paths":     quit + "POST /drain_listeners HTTP/1.1\r\n" + host + "\r\nPOST /healthcheck/fail HTTP/1.1\r\n" + host + "\r\n",
		"absolute form":             "POST http://127.0.0.1:15000/quitquitquit HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n",
		"a tunnel":                  "CONNECT 127.0.0.1:15000 HTTP/1.1\r\n" + host + "\r\n" + quit,
		"up out of the hooks":       "GET /prestop/../quitquitquit HTTP/1.1\r\n" + host + "\r\nPOST /prestop/%2e%2e/quitquitquit HTTP/1.1\r\n" + host + "\r\n",
		"line ends in a name":       "GET /prestop/app%0d%0a%0d%0aPOST%20/quitquitquit%20HTTP/1.1%0d%0a HTTP/1.1\r\n" + host + "\r\n",
		"two lengths":               "GET /prestop/app HTTP/1.1\r\n" + host + "Content-Length: 0\r\nContent-Length: 60\r\n\r\n" + quit,
		"length and chunks":         "GET /prestop/app HTTP/1.1\r\n" + host + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + quit,
		"a verb after a hook":       "GET /livez HTTP/1.1\r\n" + host + "\r\nPOST /drain HTTP/1.1\r\n" + host + "Content-Length: 14\r\n\r\n{\"reason\":\"x\"}",
		"an upgrade":                "GET /prestop/app HTTP/1.1\r\n" + host + "Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n" + quit,
		"a header that names admin": "GET /prestop/app HTTP/1.1\r\n" + host + "X-Forwarded-Host: 127.0.0.1:15000\r\nX-Original-Url: /quitquitquit\r\n\r\n",
	}
}

// The agent forwards nothing: whatever is sent to the hook port, Envoy's admin hears only what the agent itself decides.
func TestNothingIsSmuggledToAdmin(t *testing.T) {
	t.Parallel()
	u := start(t, setup{})
	for name, text := range smuggled() {
		conn, err := net.Dial("tcp", u.addr(agentPort))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, text)
		_ = conn.SetReadDeadline(time.Now().Add(8 * time.Second)) // a hook is held for a while
		said, _ := io.ReadAll(conn)
		conn.Close()
		if strings.Contains(string(said), "\r\n\r\nOK\n") || len(said) == 0 { // OK is what Envoy's admin says
			t.Errorf("%s: the answer was %q", name, said)
		}
		u.until("the agent to serve again", func() bool { return strings.Contains(u.status(), `"phase":"serving"`) })
	}
	u.servesAsBefore()
	for _, e := range u.events() {
		if e.To == "maintenance" || e.Action == "healthcheck_fail" {
			t.Errorf("%s: %s → %s", e.Action, e.From, e.To)
		}
	}
	u.stop()
	u.verdict("clean")
}

// Floods of the hook port during a real drain, the agent in a memory cgroup: the drain is clean, the agent lives and every hook
// is answered in order. The flood comes from kubelet's own address, which is the worst place for it.
func TestFloodOfTheHookPortDuringADrain(t *testing.T) {
	const head = "GET /prestop/app HTTP/1.1\r\nHost: x\r\n"
	for name, tt := range map[string]struct {
		conns int
		text  string
		slow  bool
	}{
		"10,000 idle connections": {conns: 10_000},
		"slow headers":            {conns: 1000, text: head, slow: true},
		"huge headers":            {conns: 1000, text: head + "X-Huge: " + strings.Repeat("x", 64<<10) + "\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := start(t, setup{grace: 60})
			limitMemory(t, u.Pid("agent"), 32<<20)
			long := u.background("/work?ms=25000")
			u.busy(1)
			u.Delete(nil)
			u.phase("announcing", 1)
			flood := u.flood(tt.conns, tt.text)
			if tt.slow {
				go u.drip(flood)
			}
			if n := u.happened("app", pod.HookAnswered) + u.happened("proxy", pod.HookAnswered); n != 0 {
				t.Errorf("%d hooks were answered because of the flood", n)
			}
			for range 3 { // half a request is not worth a connection, so none of these goes for one
				if got := u.ready(); got.err != nil {
					t.Errorf("readiness in the flood: %v", got.err)
				}
			}
			a := <-long
			u.mustServe("in flight", a)
			u.wait()
			u.verdict("clean")
			u.inOrder("app hook_answered", "app sigterm", "proxy hook_answered", "proxy exited")
			if answered, _ := u.when("app", pod.HookAnswered); answered.Before(a.at) {
				t.Error("the app's hook was answered before its request")
			}
			if u.happened("agent", pod.Started) != 1 || u.ExitCode("agent") != 0 {
				t.Errorf("the agent was started %d times, its exit code is %d", u.happened("agent", pod.Started), u.ExitCode("agent"))
			}
			for _, e := range u.events() {
				if e.Level == timeline.LevelError {
					t.Error(e.Text())
				}
			}
		})
	}
}

// flood opens connections to the hook port, sends the text on each and keeps them open until the test ends.
func (u *under) flood(n int, text string) (open []net.Conn) {
	u.t.Helper()
	dialer := net.Dialer{Timeout: 30 * time.Second}
	for i := range n {
		conn, err := dialer.DialContext(u.t.Context(), "tcp", u.addr(agentPort))
		if err != nil {
			u.t.Fatalf("connection %d: %v", i, err)
		}
		u.t.Cleanup(func() { conn.Close() })
		_, _ = io.WriteString(conn, text) // it may have been pushed out already
		open = append(open, conn)
	}
	return open
}

// drip adds a header to each connection twice a second, until none of them takes any more.
func (u *under) drip(conns []net.Conn) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for len(conns) > 0 {
		alive := conns[:0]
		for _, conn := range conns {
			if _, err := io.WriteString(conn, "X: x\r\n"); err == nil {
				alive = append(alive, conn)
			}
		}
		conns = alive
		select {
		case <-tick.C:
		case <-u.t.Context().Done():
			return
		}
	}
}
