package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const strangersLimit = 32 << 20 // bytes of resident memory at its peak

// peak returns the most resident memory that the process had so far, in bytes.
func (b *binary) peak(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(after + " ? ")[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// crowd opens connections from an address that do not read, and says the same on each.
func (b *binary) crowd(t *testing.T, n int, from, text string) {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 20 * time.Second, Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 2304) })
	}}
	for range n {
		conn, err := dialer.DialContext(t.Context(), "tcp", b.addr)
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { conn.Close() })
		_, _ = io.WriteString(conn, text) // it may have been pushed out already
	}
}

// watches opens HTTP/2 connections from an address, on each of them all the streams that the agent admits, which watch its health with
// large headers and take nothing. Some are pushed out at once.
func (b *binary) watches(t *testing.T, n int, from string) {
	t.Helper()
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	var all sync.WaitGroup
	for range n {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		client := &http.Client{Transport: &http.Transport{Protocols: &protocols, DialContext: dialer.DialContext}}
		t.Cleanup(client.CloseIdleConnections)
		for range 8 {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+b.addr+"/grpc.health.v1.Health/Watch", strings.NewReader("\x00\x00\x00\x00\x00"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/grpc")
			req.Header.Set("Te", "trailers")
			req.Header.Set("X", strings.Repeat("x", 4000))
			all.Go(func() {
				if res, err := client.Do(req); err == nil {
					t.Cleanup(func() { res.Body.Close() })
				}
			})
		}
	}
	all.Wait()
}

// Strangers in any mix, during a real drain with a real status: the agent stays small, the drain is clean.
func TestStrangersDuringADrain(t *testing.T) {
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x01"
	slow := func(path string) string {
		return strings.Repeat("GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n", 20)
	}
	hooks := func(b *binary, from string) {
		for i := range 150 {
			b.crowd(t, 1, from, fmt.Sprintf("GET /prestop/stranger-%d HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n", i, strings.Repeat("x", 8000)))
		}
	}
	path, _ := buildAsTheImageDoes(t) // others are larger
	for name, flood := range map[string]func(b *binary){
		"150 unknown hooks":                 func(b *binary) { hooks(b, "127.0.0.2") },
		"256 slow readers":                  func(b *binary) { b.crowd(t, 256, "127.0.0.3", slow("/status")) },
		"HTTP/2 frames that claim the most": func(b *binary) { b.crowd(t, 200, "127.0.0.5", preface) },
		"HTTP/2 streams that stay":          func(b *binary) { b.watches(t, 32, "127.0.0.6") },
		"all at once": func(b *binary) {
			var all sync.WaitGroup
			all.Go(func() { hooks(b, "127.0.0.2") })
			for i := range 4 {
				all.Go(func() { b.crowd(t, 128, fmt.Sprintf("127.0.0.%d", 10+i), slow("/status")) })
			}
			all.Go(func() { b.crowd(t, 128, "127.0.0.4", slow("/metrics")) })
			all.Go(func() { b.crowd(t, 200, "127.0.0.5", preface) })
			all.Go(func() { b.watches(t, 32, "127.0.0.6") })
			all.Wait()
		},
	} {
		t.Run(name, func(t *testing.T) {
			var busy atomic.Int64
			busy.Store(1)
			app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "in_flight %d\n", busy.Load()) }))
			defer app.Close()
			b := startBinary(t, path, "--grace-period=1h", "--quiet-max=1s", "--propagation=500ms", "--announce-max=100ms", "--app-source=prometheus:"+app.URL+"#in_flight",
				"--hooks=app,proxy,agent", "--stop=app=500ms", "--stop=proxy=500ms")
			before := b.peak(t)
			answers := make(chan error, 3)
			for _, hook := range []string{"app", "proxy", "agent"} {
				go func() { _, err := b.get(t.Context(), "/prestop/"+hook); answers <- err }()
			}
			b.await(t, "it drains", func() bool { return strings.Contains(b.out.String(), `"to":"draining"`) })
			flood(b)
			for range 3 {
				if _, err := b.get(t.Context(), "/livez"); err != nil {
					t.Error(err)
				}
			}
			select {
			case err := <-answers:
				t.Errorf("a hook was answered while a request is in flight: %v", err)
			default:
			}
			if text, err := b.get(t.Context(), "/status"); err != nil || !strings.Contains(text, `"phase":"draining"`) {
				t.Errorf("status in the crowd: %v %.200s", err, text)
			}
			busy.Store(0)
			for range 3 {
				if err := <-answers; err != nil {
					t.Error(err)
				}
			}
			peak := b.peak(t)
			_ = b.Process.Signal(syscall.SIGTERM)
			t.Logf("resident %.1f MiB before, %.1f MiB at the peak", float64(before)/(1<<20), float64(peak)/(1<<20))
			if peak > strangersLimit {
				t.Errorf("%d bytes at the peak, want at most %d", peak, strangersLimit)
			}
			b.await(t, "the verdict", func() bool { return strings.Contains(b.out.String(), `"msg":"verdict"`) })
			if !strings.Contains(b.out.String(), `"outcome":"clean"`) {
				t.Errorf("no clean drain: %s", b.out.String()[max(0, len(b.out.String())-800):])
			}
		})
	}
}
