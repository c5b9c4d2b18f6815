package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func startControl(t *testing.T, f *fakeAgent) (*Server, string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "control.sock")
	s, _ := start(t, f.agent(), Options{Control: socket})
	return s, socket
}

func TestOperatorVerbs(t *testing.T) {
	f := newFakeAgent()
	_, socket := startControl(t, f)
	client := NewClient(socket)
	for _, verb := range []string{"drain", "undrain", "finish"} {
		if got, err := client.Operate(t.Context(), verb, "because"); err != nil || got != "did "+verb {
			t.Errorf("%s: %q, %v", verb, got, err)
		}
	}
	if _, err := client.Operate(t.Context(), "drain", " "); err != nil {
		t.Error(err)
	}
	if want := []string{"drain: because", "undrain: because", "finish: because", "drain: no reason given"}; !slices.Equal(f.asked(), want) {
		t.Errorf("the agent was asked %q, want %q", f.asked(), want)
	}
	if _, err := client.Operate(t.Context(), "drain", "refuse"); err == nil || err.Error() != "drain: nothing to drain" {
		t.Errorf("got %v, want the agent's own words", err)
	}
	if _, err := client.Operate(t.Context(), "explode", "x"); err == nil {
		t.Error("an unknown verb was accepted")
	}
	if _, err := client.Operate(t.Context(), "drain", strings.Repeat("x", maxControlBody)); err == nil {
		t.Error("a reason of 4 KiB was accepted")
	}
}

func TestClientHook(t *testing.T) {
	f := newFakeAgent()
	_, socket := startControl(t, f)
	got := make(chan HookAnswer)
	go func() {
		answer, err := NewClient(socket).Hook(t.Context(), "app")
		if err != nil {
			t.Error(err)
		}
		got <- answer
	}()
	calls := f.waitForCalls(1)
	if calls[0] != (call{container: "app", authentic: true}) {
		t.Errorf("the agent saw %+v, want an authentic call: it came from our own UID over the socket", calls[0])
	}
	close(f.release)
	if want := (HookAnswer{Container: "app", HeldMS: 7, Phase: "stopping", Outcome: "clean"}); <-got != want {
		t.Errorf("want %+v", want)
	}
}

func TestClientHookKeepsOddNamesApart(t *testing.T) {
	f := newFakeAgent()
	close(f.release)
	_, socket := startControl(t, f)
	for i, name := range []string{"a b", "../status", "x?y=z", "ü"} {
		if _, err := NewClient(socket).Hook(t.Context(), name); err != nil {
			t.Errorf("%q: %v", name, err)
		} else if got := f.calls()[i].container; got != name {
			t.Errorf("hook of %q arrived as %q", name, got)
		}
	}
}

func TestClientStatusAndWatch(t *testing.T) {
	s, socket := startControl(t, newFakeAgent())
	client := NewClient(socket)
	if got, err := client.Status(t.Context()); err != nil || string(got) != `{"phase":"serving"}` {
		t.Errorf("got %s, %v", got, err)
	}
	shown := 0
	err := client.Watch(t.Context(), time.Millisecond, func(json.RawMessage) error {
		if shown++; shown == 3 {
			return s.Shutdown(t.Context())
		}
		return nil
	})
	if err == nil || shown != 3 {
		t.Errorf("watch ended with %v after %d, want an error after 3: the agent is gone", err, shown)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	_, socket = startControl(t, newFakeAgent())
	why := errors.New("seen enough")
	if err := NewClient(socket).Watch(ctx, time.Hour, func(json.RawMessage) error { cancel(why); return nil }); !errors.Is(err, why) {
		t.Errorf("got %v, want %v", err, why)
	}
}

func TestClientSaysWhichAgentItDidNotFind(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "none.sock")
	if _, err := NewClient(socket).Hook(t.Context(), "app"); err == nil || !strings.Contains(err.Error(), socket) || strings.Contains(err.Error(), "http://") {
		t.Errorf("got %v, want the socket's path and no made-up URL", err)
	}
}

const peerEnv = "DRAIN_AGENT_TEST_PEER"

// bePeer calls everything on the socket and prints the status codes.
func bePeer(socket string) {
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	for _, ask := range []struct{ method, path string }{
		{"POST", "/drain"}, {"POST", "/undrain"}, {"POST", "/finish"}, {"GET", "/status"}, {"GET", "/prestop/app"},
	} {
		req, err := http.NewRequest(ask.method, "http://agent"+ask.path, strings.NewReader(`{"reason":"x"}`))
		if err != nil {
			panic(err)
		}
		res, err := client.Do(req)
		if err != nil {
			fmt.Println(ask.path, err)
			continue
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		fmt.Println(ask.path, res.StatusCode, strings.Contains(string(body), "UID 12345"))
	}
}

// A peer under another UID may call its hook, and nothing else. Only root can start a process under another UID.
func TestAPeerOfAnotherUIDMayOnlyCallHooks(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to become another UID; TestWhoMayOperate covers the decision itself")
	}
	dir, err := os.MkdirTemp("", "drain-agent-peer") //nolint:usetesting // t.TempDir is closed to other UIDs
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	program := copyProgram(t, dir)
	f := newFakeAgent()
	close(f.release)
	socket := filepath.Join(dir, "control.sock")
	start(t, f.agent(), Options{Control: socket})
	peer := func(uid, gid uint32) string {
		cmd := exec.CommandContext(t.Context(), program)
		cmd.Env = []string{peerEnv + "=" + socket}
		cmd.Dir = dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	if got, want := peer(12345, 0), "/drain 403 true\n/undrain 403 true\n/finish 403 true\n/status 403 true\n/prestop/app 200 false\n"; got != want {
		t.Errorf("UID 12345 in our group got\n%swant\n%s", got, want)
	}
	if len(f.asked()) != 0 || len(f.calls()) != 1 || f.calls()[0].authentic {
		t.Errorf("operated %v, called %+v; want one call that is not authentic", f.asked(), f.calls())
	}
	if got, want := peer(0, 0), "/drain 200 false\n/undrain 200 false\n/finish 200 false\n/status 200 false\n/prestop/app 200 false\n"; got != want {
		t.Errorf("root got\n%swant\n%s", got, want)
	}
	if got := peer(12345, 12345); strings.Count(got, "permission denied") != 5 {
		t.Errorf("mode 0660 let somebody of another group in:\n%s", got)
	}
}

func copyProgram(t *testing.T, dir string) string {
	t.Helper()
	program, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "peer")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWhoMayOperate(t *testing.T) {
	for _, c := range []struct {
		peer peer
		want bool
	}{
		{peer{}, false}, // over TCP, or the kernel did not say
		{peer{uid: 0, known: true}, true},
		{peer{uid: 1000, known: true}, true},
		{peer{uid: 1001, known: true}, false},
	} {
		if got := c.peer.commands(1000); got != c.want {
			t.Errorf("%v commands UID 1000: %v, want %v", c.peer, got, c.want)
		}
	}
	if (peer{}).commands(0) {
		t.Error("an unknown peer commands root")
	}
}

func TestAMisspeltRequestIsNotCarriedOut(t *testing.T) {
	f := newFakeAgent()
	_, socket := startControl(t, f)
	for _, body := range []string{`{"reson":"x"}`, `{"reason":1}`, `drain please`, ``} {
		if _, err := NewClient(socket).do(t.Context(), http.MethodPost, "/drain", []byte(body)); err == nil || !strings.Contains(err.Error(), `{"reason":"…"}`) {
			t.Errorf("body %s: %v, want an error that shows the right form", body, err)
		}
	}
	if asked := f.asked(); len(asked) != 0 {
		t.Errorf("the agent was asked %q", asked)
	}
}

func TestControlSocketFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "control.sock")
	left, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listenControl(path); err == nil || !strings.Contains(err.Error(), "another process answers") {
		t.Errorf("a socket in use: %v", err)
	}
	left.(*net.UnixListener).SetUnlinkOnClose(false)
	left.Close()
	ln, err := listenControl(path)
	if err != nil {
		t.Fatalf("a socket left behind: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v; want 0660", info.Mode(), err)
	}
	ln.Close()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket stays behind: %v", err)
	}

	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenControl(path); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("a file in the way: %v", err)
	}
	if content, err := os.ReadFile(path); err != nil || string(content) != "precious" {
		t.Errorf("the file was touched: %q, %v", content, err)
	}
	if _, err := listenControl(filepath.Join(dir, "no", "dir.sock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing directory: %v", err)
	}
}

// Whatever bytes come over the control socket, the agent is asked for nothing but the three verbs, each with a reason.
func FuzzControl(f *testing.F) {
	for _, seed := range []string{
		"POST /drain HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n{\"reason\":\"x\"}",
		"POST /drain HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
		"POST /undrain HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
		"GET /drain HTTP/1.1\r\nHost: x\r\n\r\n", "GET /prestop/a HTTP/1.0\r\n\r\n", "GET /status HTTP/1.1\r\nHost: x\r\n\r\nGET /status HTTP/1.1\r\n\r\n",
		"POST /finish HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n{", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x00\xff", "",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		agent := newFakeAgent()
		close(agent.release)
		s, err := New(agent.agent(), Options{Listen: "unused"})
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := net.Pipe()
		once := &oneConn{conn: ours, gone: make(chan struct{})}
		s.control.http.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, peerContextKey{}, peer{uid: 0, known: true})
		}
		go func() { _ = s.control.http.Serve(once) }()
		answered := make(chan []byte)
		go func() {
			all, _ := io.ReadAll(theirs)
			answered <- all
		}()
		_ = theirs.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = theirs.Write(sent)
		_ = theirs.Close()
		<-answered
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := s.control.http.Shutdown(ctx); err != nil {
			t.Errorf("a handler hangs after %q", sent)
		}
		if n := len(agent.asked()); n > bytes.Count(sent, []byte("POST")) {
			t.Errorf("%q made the agent do %d things", sent, n)
		}
		for _, asked := range agent.asked() {
			verb, reason, _ := strings.Cut(asked, ": ")
			if !slices.Contains(verbs, verb) || strings.TrimSpace(reason) == "" {
				t.Errorf("%q made the agent %q", sent, asked)
			}
		}
	})
}

// oneConn is a listener of one connection.
type oneConn struct {
	conn net.Conn
	gone chan struct{}
	used bool
}

func (l *oneConn) Accept() (net.Conn, error) {
	if !l.used {
		l.used = true
		return l.conn, nil
	}
	<-l.gone
	return nil, net.ErrClosed
}

func (l *oneConn) Close() error {
	select {
	case <-l.gone:
	default:
		close(l.gone)
	}
	return nil
}

func (l *oneConn) Addr() net.Addr { return l.conn.LocalAddr() }
