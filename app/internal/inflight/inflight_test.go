package inflight_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/drain-agent/drain-agent/app/internal/inflight"
)

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("gave up waiting: %s", what)
		}
	}
}

func TestCountsARequestUntilItsHandlerReturns(t *testing.T) {
	var c inflight.Counter
	release := make(chan struct{})
	srv := httptest.NewServer(c.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release })))
	defer srv.Close()
	for range 5 {
		go func() { _, _ = http.Get(srv.URL) }()
	}
	await(t, "five requests", func() bool { return c.Total() == 5 && c.Of(inflight.HTTP) == 5 })
	close(release)
	await(t, "none", func() bool { return c.Total() == 0 })
}

// A request whose handler panics is not counted for ever.
func TestCountSurvivesAPanic(t *testing.T) {
	var c inflight.Counter
	h := c.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	func() {
		defer func() { _ = recover() }()
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	}()
	if n := c.Total(); n != 0 {
		t.Fatalf("%d in flight after a panic, want 0", n)
	}
}

// A hijacked connection outlives its handler; it is counted once, until it is closed.
func TestCountsHijackedConnectionsUntilClosed(t *testing.T) {
	var c inflight.Counter
	kept := make(chan net.Conn, 1)
	srv := httptest.NewServer(c.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		kept <- conn
	})))
	defer srv.Close()
	client, err := new(net.Dialer).DialContext(t.Context(), "tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_, _ = io.WriteString(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	conn := <-kept
	await(t, "one hijacked, none else", func() bool { return c.Total() == 1 && c.Of(inflight.Hijacked) == 1 })
	_, _ = io.WriteString(conn, "x")
	if b, err := bufio.NewReader(client).ReadByte(); b != 'x' || err != nil {
		t.Fatalf("read %q, %v through the hijacked connection", b, err)
	}
	_ = conn.Close()
	_ = conn.Close()
	if n := c.Total(); n != 0 {
		t.Fatalf("%d in flight after close, want 0", n)
	}
}

func TestCountsWebSockets(t *testing.T) {
	var c inflight.Counter
	srv := httptest.NewServer(c.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		_, _, _ = conn.Read(context.Background())
		_ = conn.CloseNow()
	})))
	defer srv.Close()
	conn, _, err := websocket.Dial(t.Context(), srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	await(t, "one WebSocket", func() bool { return c.Total() == 1 && c.Of(inflight.WebSocket) == 1 })
	_ = conn.CloseNow()
	await(t, "none", func() bool { return c.Total() == 0 })
}
