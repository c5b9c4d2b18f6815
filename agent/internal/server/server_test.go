package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestHookIsHeldUntilTheAgentLetsGo(t *testing.T) {
	f := newFakeAgent()
	_, url := start(t, f.agent(), Options{})
	type result struct {
		code   int
		header http.Header
		body   string
	}
	got := make(chan result)
	go func() {
		code, header, body := request(t, http.MethodGet, url+"/prestop/app", nil)
		got <- result{code, header, body}
	}()
	f.waitForCalls(1)
	select {
	case r := <-got:
		t.Fatalf("answered before the release: %+v", r)
	default:
	}
	close(f.release)
	r := <-got
	want := `{"container":"app","held_ms":7,"phase":"stopping","outcome":"clean"}` + "\n"
	if r.code != http.StatusOK || r.body != want {
		t.Errorf("got %d %q, want 200 %q", r.code, r.body, want)
	}
	if r.header.Get("Content-Length") != fmt.Sprint(len(want)) {
		t.Errorf("Content-Length %q, want %d: kubelet does not wait for a body of unknown length as for a known one", r.header.Get("Content-Length"), len(want))
	}
}

func TestOnlyGETCallsAHook(t *testing.T) {
	f := newFakeAgent()
	_, url := start(t, f.agent(), Options{})
	for _, method := range []string{http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions} {
		if code, header, _ := request(t, method, url+"/prestop/app", nil); code != http.StatusMethodNotAllowed || header.Get("Allow") != "GET" {
			t.Errorf("%s: %d, Allow %q; want 405, GET", method, code, header.Get("Allow"))
		}
	}
	if len(f.calls()) != 0 {
		t.Errorf("the agent was told of %v", f.calls())
	}
}

func TestEveryPathBelowPrestopIsAHook(t *testing.T) {
	f := newFakeAgent()
	close(f.release)
	_, url := start(t, f.agent(), Options{})
	for path, want := range map[string]string{
		"/prestop/app":                         "app",
		"/prestop/app/":                        "app",
		"/prestop/app?x=y":                     "app",
		"/prestop":                             "",
		"/prestop/":                            "",
		"/prestop/a/b":                         "a/b",
		"/prestop/..%2fquitquitquit":           "../quitquitquit",
		"/prestop/%ff":                         "?",
		"/prestop/" + strings.Repeat("x", 200): strings.Repeat("x", 63),
	} {
		before := len(f.calls())
		if code, _, body := request(t, http.MethodGet, url+path, nil); code != http.StatusOK {
			t.Errorf("GET %s: %d %s", path, code, body)
			continue
		}
		if got := f.calls()[before].container; got != want {
			t.Errorf("GET %s called the hook of %q, want %q", path, got, want)
		}
	}
}

func TestHangUpEndsTheHandlerNotTheFact(t *testing.T) {
	f := newFakeAgent()
	s, url := start(t, f.agent(), Options{})
	ctx, hangUp := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, url+"/prestop/app", nil)
	done := make(chan error)
	go func() { _, err := freshClient().Do(req); done <- err }()
	f.waitForCalls(1)
	hangUp()
	if err := <-done; err == nil {
		t.Fatal("the call came back although it was cancelled")
	}
	calls := f.waitFor(func(c []call) bool { return c[0].left })
	if len(calls) != 1 || calls[0].container != "app" {
		t.Errorf("the agent saw %+v, want one call of app", calls)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Errorf("the handler still runs: %v", err)
	}
}

// Whoever closes only his sending half still listens; he must not take the silence for an answer of 200.
func TestHangUpIsNoAnswer(t *testing.T) {
	f := newFakeAgent()
	s, _ := start(t, f.agent(), Options{})
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /prestop/app HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	f.waitForCalls(1)
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || len(got) != 0 {
		t.Errorf("got %q, %v; want nothing", got, err)
	}
}

func TestAPanicIsReported(t *testing.T) {
	agent := newFakeAgent().agent()
	agent.Status = func(EventPage) any { panic("oops") }
	said := make(chan string, 1)
	_, url := start(t, agent, Options{Warn: func(s string) { said <- s }})
	if res, err := freshClient().Get(url + "/status"); err == nil {
		res.Body.Close()
		t.Error("a panicking status was answered")
	}
	if got := <-said; !strings.Contains(got, "oops") {
		t.Errorf("warned of %q, want the panic", got)
	}
}

func TestAnEmptyTokenFileIsReported(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var said []string
	if _, err := New(newFakeAgent().agent(), Options{Listen: "unused", TokenFile: file, Warn: func(s string) { said = append(said, s) }}); err != nil {
		t.Fatal(err)
	}
	if len(said) != 1 || !strings.Contains(said[0], "is empty") {
		t.Errorf("warned of %q, want the empty file", said)
	}
}

func TestManyCallersAreAnsweredAtOnce(t *testing.T) {
	const n = maxConns - 12
	f := newFakeAgent()
	_, url := start(t, f.agent(), Options{})
	var callers sync.WaitGroup
	for range n {
		callers.Go(func() {
			if code, _, body := request(t, http.MethodGet, url+"/prestop/app", nil); code != http.StatusOK || !strings.Contains(body, "stopping") {
				t.Errorf("got %d %q", code, body)
			}
		})
	}
	f.waitForCalls(n)
	close(f.release)
	callers.Wait()
}

func TestTokenMakesAHookAuthentic(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	f := newFakeAgent()
	close(f.release)
	var warnings []string
	_, url := start(t, f.agent(), Options{TokenFile: file, Warn: func(s string) { warnings = append(warnings, s) }})
	if len(warnings) != 1 || !strings.Contains(warnings[0], file) {
		t.Errorf("warnings %q, want one that names %s", warnings, file)
	}
	authentic := func(token string) bool {
		before := len(f.calls())
		header := http.Header{}
		if token != "" {
			header.Set(TokenHeader, token)
		}
		if code, _, _ := request(t, http.MethodGet, url+"/prestop/app", header); code != http.StatusOK {
			t.Fatalf("token %q: %d, want 200 whatever the token is", token, code)
		}
		return f.calls()[before].authentic
	}
	write := func(content string) {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	steps := []struct {
		content, shown string
		want           bool
	}{
		{"", "", false},
		{"", "s3cret", false},
		{"s3cret\n", "s3cret", true},
		{"s3cret\n", "s3cre", false},
		{"s3cret\n", "S3cret", false},
		{"s3cret\n", "", false},
		{"other", "s3cret", false},
		{"other", "other", true},
		{" \n", "other", false},
	}
	if authentic("s3cret") {
		t.Error("authentic without a token file")
	}
	for _, s := range steps {
		write(s.content)
		if got := authentic(s.shown); got != s.want {
			t.Errorf("file %q, header %q: authentic %v, want %v", s.content, s.shown, got, s.want)
		}
	}
}

func TestShutdownFlushesAnswersUnderWay(t *testing.T) {
	const n = 50
	f := newFakeAgent()
	s, url := start(t, f.agent(), Options{})
	var callers sync.WaitGroup
	for range n {
		callers.Go(func() {
			if code, _, _ := request(t, http.MethodGet, url+"/prestop/app", nil); code != http.StatusOK {
				t.Errorf("got %d", code)
			}
		})
	}
	f.waitForCalls(n)
	quiet, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer quiet.Close()
	down := make(chan error)
	go func() { down <- s.Shutdown(t.Context()) }()
	close(f.release)
	if err := <-down; err != nil {
		t.Error(err)
	}
	callers.Wait()
	if _, err := net.Dial("tcp", s.Addr().String()); err == nil {
		t.Error("still listening after Shutdown")
	}
}

// Closing a listener under net/http must never look like a failure, whoever notices it first.
func TestShutdownIsClean(t *testing.T) {
	for range 200 {
		s, err := New(newFakeAgent().agent(), Options{Listen: "127.0.0.1:0", Control: filepath.Join(t.TempDir(), "c"), Warn: func(s string) { t.Error(s) }})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestShutdownIsBoundedByItsContext(t *testing.T) {
	f := newFakeAgent()
	s, url := start(t, f.agent(), Options{})
	gone := make(chan error)
	go func() { _, err := freshClient().Get(url + "/prestop/app"); gone <- err }()
	f.waitForCalls(1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if err := <-gone; err == nil {
		t.Error("the held call was answered")
	}
}

func TestStatus(t *testing.T) {
	_, url := start(t, newFakeAgent().agent(), Options{})
	code, header, body := request(t, http.MethodGet, url+"/status", nil)
	if code != http.StatusOK || body != `{"phase":"serving"}`+"\n" || header.Get("Content-Type") != "application/json" {
		t.Errorf("got %d %v %q", code, header, body)
	}
}

func TestOperatorVerbsAreNotOnThePort(t *testing.T) {
	f := newFakeAgent()
	_, url := start(t, f.agent(), Options{})
	for _, path := range []string{"/drain", "/undrain", "/finish", "/quitquitquit", "/healthcheck/fail", "/stats"} {
		if code, _, _ := request(t, http.MethodPost, url+path, nil); code != http.StatusNotFound {
			t.Errorf("POST %s: %d, want 404", path, code)
		}
	}
	if len(f.asked()) != 0 {
		t.Errorf("operated %v", f.asked())
	}
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	if _, err := New(Agent{}, Options{Listen: ":0"}); err == nil || !strings.Contains(err.Error(), "Hook") {
		t.Errorf("got %v", err)
	}
	if _, err := New(newFakeAgent().agent(), Options{}); err == nil || !strings.Contains(err.Error(), "Listen") {
		t.Errorf("got %v", err)
	}
}

func TestStartWithATakenPortStillOpensTheSocket(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	socket := filepath.Join(t.TempDir(), "control.sock")
	s, err := New(newFakeAgent().agent(), Options{Listen: taken.Addr().String(), Control: socket})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err == nil || !strings.Contains(err.Error(), "hook port") {
		t.Errorf("got %v, want an error about the hook port", err)
	}
	defer s.Shutdown(t.Context())
	if s.Addr() != nil {
		t.Errorf("Addr %v although the port is not ours", s.Addr())
	}
	if _, err := NewClient(socket).Status(t.Context()); err != nil {
		t.Error(err)
	}
}
