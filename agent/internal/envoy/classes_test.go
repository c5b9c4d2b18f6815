package envoy_test

import (
	"context"
	"crypto/tls"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/coder/websocket"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/internal/envoy"
	"github.com/drain-agent/drain-agent/scripts/envoy/envoytest"
)

// classified is one more in flight: n in all, told apart like this.
func classified(n int64, classes map[string]int64) func(envoy.Sample) bool {
	return func(s envoy.Sample) bool { return s.InFlight == drain.Known(n) && maps.Equal(s.Classes, classes) }
}

func TestClassesAreToldApart(t *testing.T) {
	t.Parallel()
	onEveryRelease(t, func(t *testing.T, version string) {
		silent := silentApp(t)
		e := envoytest.Start(t, envoytest.Options{
			Version: version, AppPort: sockets(t), TCP: true, TCPPort: silent, TLSPort: silent,
		})
		c := connect(t, e.AdminURL)
		describe(t, c)
		until(t, c, "nothing", classified(0, nil))

		raw := dial(t, e.Listeners["tcp"])
		until(t, c, "a TCP connection", classified(1, map[string]int64{"tcp": 1}))
		hello(t, e.Listeners["tls"])
		until(t, c, "TLS that is passed through", classified(2, map[string]int64{"tcp": 1, "tls": 1}))
		upgrade(t, e.Inbound())
		until(t, c, "a WebSocket", classified(3, map[string]int64{"tcp": 1, "tls": 1, "websocket": 1}))
		slow := dial(t, e.Inbound())
		_, _ = slow.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n")) // headers that never end: no host sees this request
		until(t, c, "a request", classified(4, map[string]int64{"tcp": 1, "tls": 1, "websocket": 1, "requests": 1}))
		raw.Close()
		until(t, c, "no TCP connection", classified(3, map[string]int64{"tls": 1, "websocket": 1, "requests": 1}))
	})
}

// TestStreamsOfOneConnection: each is a request, whatever gRPC calls it.
func TestStreamsOfOneConnection(t *testing.T) {
	t.Parallel()
	onEveryRelease(t, func(t *testing.T, version string) {
		app := startApp(t)
		e := envoytest.Start(t, envoytest.Options{Version: version, AppPort: app.port})
		c := connect(t, e.AdminURL)
		describe(t, c)
		var protocols http.Protocols
		protocols.SetUnencryptedHTTP2(true)
		client := &http.Client{Transport: &http.Transport{Protocols: &protocols}}
		for range 100 {
			go get(t.Context(), client, "http://"+e.Inbound()+"/slow")
			app.wait(t)
		}
		until(t, c, "100 requests", classified(100, map[string]int64{"requests": 100}))
		close(app.release)
		until(t, c, "nothing", classified(0, nil))
	})
}

// TestWhatCannotBeToldStaysInTheTotal: TCP and HTTP lead to one cluster, and in the second Envoy the gauges are hidden.
func TestWhatCannotBeToldStaysInTheTotal(t *testing.T) {
	t.Parallel()
	onEveryRelease(t, func(t *testing.T, version string) {
		shared := envoytest.Start(t, envoytest.Options{Version: version, AppPort: sockets(t), TCP: true})
		c := connect(t, shared.AdminURL)
		describe(t, c)
		dial(t, shared.Listeners["tcp"])
		upgrade(t, shared.Inbound())
		until(t, c, "a TCP connection and a WebSocket", classified(2, map[string]int64{"websocket": 1}))

		hidden := envoytest.Start(t, envoytest.Options{Version: version, AppPort: sockets(t), TCP: true, TCPPort: silentApp(t), HideStats: true})
		c = connect(t, hidden.AdminURL)
		describe(t, c)
		dial(t, hidden.Listeners["tcp"])
		upgrade(t, hidden.Inbound())
		until(t, c, "a TCP connection and something", classified(2, map[string]int64{"tcp": 1}))
	})
}

// silentApp keeps every connection open until its peer closes it, and says nothing.
func silentApp(t *testing.T) int {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(io.Discard, conn)
				conn.Close()
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// sockets is an app that keeps every WebSocket open.
func sockets(t *testing.T) int {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err == nil {
			_, _, _ = conn.Read(t.Context())
		}
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().(*net.TCPAddr).Port
}

func upgrade(t *testing.T, addr string) {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), "ws://"+addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
}

// hello begins a TLS handshake that nobody answers.
func hello(t *testing.T, addr string) {
	t.Helper()
	conn := tls.Client(dial(t, addr), &tls.Config{ServerName: "app.example", MinVersion: tls.VersionTLS13})
	go func() { _ = conn.HandshakeContext(t.Context()) }()
}

func get(ctx context.Context, client *http.Client, url string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return
	}
	if resp, err := client.Do(req); err == nil {
		_ = resp.Body.Close()
	}
}
