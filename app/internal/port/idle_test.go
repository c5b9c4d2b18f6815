package port

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener in the memory of a synctest bubble, where time goes by at once.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p pipes) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	p <- theirs
	return ours, nil
}

func pipe(t *testing.T) pipes {
	t.Helper()
	p := make(pipes)
	s := serve(p, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	t.Cleanup(func() {
		close(p)
		_ = s.http.Close()
	})
	return p
}

// A proxy opens a connection for a request that another one took, and uses it minutes later.
func TestConnectionOpenedAheadOfNeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := pipe(t).dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for range 2 { // and once more when it was used
			time.Sleep(9 * time.Minute)
			if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: any\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
	})
}

func TestHalfAHeaderIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := pipe(t).dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		time.Sleep(time.Minute)
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHo"); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < headerTime || took > headerTime+time.Second {
			t.Errorf("given up after %v, want %v", took, headerTime)
		}
	})
}

// The time for a header ends with the header: HTTP/2 stays open afterwards.
func TestHTTP2StaysOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h2 http.Protocols
		h2.SetUnencryptedHTTP2(true)
		dials, p := 0, pipe(t)
		transport := &http.Transport{Protocols: &h2, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials++
			return p.dial(ctx, network, addr)
		}}
		defer transport.CloseIdleConnections()
		for range 3 {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://any/", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := transport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			time.Sleep(time.Minute)
		}
		if dials != 1 {
			t.Errorf("%d connections, want 1", dials)
		}
	})
}
