package server

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pipeServer serves one in-memory connection, so that its timeouts run on the bubble's clock.
func pipeServer(t *testing.T, f *fakeAgent) net.Conn {
	t.Helper()
	s, err := New(f.agent(), Options{Listen: "unused", Probes: testProbes(t)})
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := net.Pipe()
	served := make(chan error)
	go func() { served <- s.public.http.Serve(&oneConn{conn: ours, gone: make(chan struct{})}) }()
	t.Cleanup(func() {
		_ = theirs.Close()
		_ = s.public.http.Close()
		<-served
	})
	return theirs
}

func TestSlowHeadersAreCutOff(t *testing.T) {
	for name, text := range map[string]string{
		"nothing": "", "half a header": "GET /livez HTTP/1.1\r\nX: ", "half a preface": "PRI * HTTP/2", "the first line of a preface": "PRI * HTTP/2.0\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := pipeServer(t, newFakeAgent())
				begin := time.Now()
				_, _ = io.WriteString(conn, text)
				_, _ = io.ReadAll(conn)
				if took := time.Since(begin); took != headerTimeout {
					t.Errorf("cut off after %v, want %v", took, headerTimeout)
				}
			})
		})
	}
}

func TestAHookOutlivesEveryTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeAgent()
		conn := pipeServer(t, f)
		_, _ = io.WriteString(conn, "GET /prestop/app HTTP/1.1\r\nHost: x\r\n\r\n")
		time.Sleep(2 * time.Hour)
		close(f.release)
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(res.Body); err != nil || !strings.Contains(string(body), "stopping") {
			t.Errorf("got %s, %v", body, err)
		}
	})
}

func TestABodyThatNeverComesHoldsUpNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeAgent()
		conn := pipeServer(t, f)
		_, _ = io.WriteString(conn, "GET /prestop/app HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
		begin := time.Now()
		close(f.release)
		if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%+v, %v", res, err)
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("answered after %v, want at most 1s", took)
		}
	})
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := pipeServer(t, newFakeAgent())
		_, _ = io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
		begin := time.Now()
		_, _ = io.ReadAll(conn)
		if took := time.Since(begin); took != idleTimeout {
			t.Errorf("closed after %v, want %v", took, idleTimeout)
		}
	})
}

func TestHugeHeadersAreRefused(t *testing.T) {
	f := newFakeAgent()
	_, url := start(t, f.agent(), Options{})
	code, _, _ := request(t, http.MethodGet, url+"/prestop/app", http.Header{"X-Huge": {strings.Repeat("x", 64<<10)}})
	if code != http.StatusRequestHeaderFieldsTooLarge || len(f.calls()) != 0 {
		t.Errorf("got %d and calls %v, want 431 and none", code, f.calls())
	}
}
