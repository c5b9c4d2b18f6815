package server

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// fakeConn is a connection of which only the peer's address matters.
type fakeConn struct {
	net.Conn
	from   string
	closed bool
}

func (c *fakeConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(c.from)} }

func (c *fakeConn) Close() error {
	c.closed = true
	return nil
}

func TestWhoIsPushedOut(t *testing.T) {
	const kubelet, scraper, flooder = "10.0.0.1", "10.0.0.2", "10.0.0.3"
	type one struct {
		from string
		busy bool
	}
	for _, c := range []struct {
		name string
		open []one // oldest first
		next string
		want int // index of the one that goes; len(open) is the next itself
	}{
		{"the oldest quiet one of one peer", []one{{kubelet, true}, {kubelet, false}, {kubelet, false}, {kubelet, false}}, kubelet, 1},
		{"of two peers with equally many, the oldest quiet one", []one{{kubelet, false}, {scraper, false}, {flooder, false}, {flooder, false}}, kubelet, 0},
		{"the flooder's, not the newcomer's", []one{{kubelet, false}, {flooder, false}, {flooder, false}, {flooder, false}}, scraper, 1},
		{"a busy one of the heaviest before a quiet one of another", []one{{kubelet, false}, {flooder, true}, {flooder, true}, {flooder, true}}, kubelet, 3},
		{"where all others are busy: the flooder's own next", []one{{kubelet, true}, {flooder, true}, {flooder, true}, {flooder, true}}, flooder, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := newConns(len(c.open))
			var all []*fakeConn
			for _, o := range c.open {
				conn := &fakeConn{from: o.from}
				all = append(all, conn)
				table.add(conn)
				table.changed(conn, http.StateNew)
				table.changed(conn, http.StateActive)
				table.setBusy(conn, o.busy)
			}
			next := &fakeConn{from: c.next}
			all = append(all, next)
			table.add(next)
			for i, conn := range all {
				if conn.closed != (i == c.want) {
					t.Errorf("connection %d of %s: closed %v; want only %d to go", i, conn.from, conn.closed, c.want)
				}
			}
		})
	}
}

func TestClosedConnectionsAreForgotten(t *testing.T) {
	table := newConns(2)
	for range 10 {
		conn := &fakeConn{from: "10.0.0.1"}
		table.add(conn)
		table.setBusy(conn, true)
		table.changed(conn, http.StateIdle)
		table.changed(conn, http.StateClosed)
		table.changed(conn, http.StateClosed)
	}
	if len(table.open) != 0 || len(table.peers) != 0 {
		t.Errorf("open %v, peers %v; want none", table.open, table.peers)
	}
}

// Connections that speak HTTP/2 cost the most, so there are few of them, and a flood of them pushes out itself: one of its own,
// never another peer's probe or a hook.
func TestHTTP2ConnectionsAreFew(t *testing.T) {
	s, _ := start(t, newFakeAgent().agent(), Options{Probes: testProbes(t)})
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	open := func(say string) net.Conn {
		conn, err := dialer.DialContext(t.Context(), "tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		_, _ = io.WriteString(conn, say)
		return conn
	}
	hook := open("GET /prestop/app HTTP/1.1\r\nHost: x\r\n\r\n")
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	conns := make(chan net.Conn, 3*maxHTTP2Conns) // filled, then read
	for range cap(conns) {
		conns <- open(preface)
	}
	close(conns)
	probe := healthClient(t, s)
	for range 3 {
		if _, err := probe.Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
			t.Errorf("a probe in the flood: %v", err)
		}
	}
	var left atomic.Int64
	var all sync.WaitGroup
	for conn := range conns {
		all.Go(func() {
			_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
				left.Add(1)
			}
		})
	}
	all.Wait()
	if n := left.Load(); n != maxHTTP2Conns-1 { // the probe's is one
		t.Errorf("%d of the flood are open, want %d", n, maxHTTP2Conns-1)
	}
	_ = hook.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := hook.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the hook was let go: %d bytes, %v", n, err)
	}
}

func TestWhoComesAfterTheEndIsClosed(t *testing.T) {
	table := newConns(2)
	quiet, busy, late := &fakeConn{from: "10.0.0.1"}, &fakeConn{from: "10.0.0.1"}, &fakeConn{from: "10.0.0.1"}
	table.add(quiet)
	table.add(busy)
	table.setBusy(busy, true)
	table.closeQuiet()
	table.add(late)
	if !quiet.closed || busy.closed || !late.closed {
		t.Errorf("closed: quiet %v, busy %v, late %v; want all but the busy one", quiet.closed, busy.closed, late.closed)
	}
}

func TestAListenerMayBeClosedTwice(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	limited := newConns(1).limit(ln)
	for range 2 {
		if err := limited.Close(); err != nil {
			t.Error(err)
		}
	}
}

// An agent that stood still past the deadline of a hook's header reads it all the same; where nothing came, the deadline stands.
func TestAHookThatCameWhileTheAgentStoodStillIsRead(t *testing.T) {
	for network, address := range map[string]string{"tcp": "127.0.0.1:0", "unix": filepath.Join(t.TempDir(), "s")} {
		ln, err := (&net.ListenConfig{}).Listen(t.Context(), network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		accept := func() (ours, theirs net.Conn) {
			if theirs, err = (&net.Dialer{}).DialContext(t.Context(), network, ln.Addr().String()); err != nil {
				t.Fatal(err)
			}
			if ours, err = newConns(8).limit(ln).Accept(); err != nil {
				t.Fatal(err)
			}
			if err := ours.SetReadDeadline(time.Unix(1, 0)); err != nil {
				t.Fatal(err)
			}
			return ours, theirs
		}
		const hook = "GET /prestop/app HTTP/1.1\r\n"
		ours, theirs := accept()
		defer theirs.Close()
		if _, err := io.WriteString(theirs, hook); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1000)
		if n, err := ours.Read(b); err != nil || string(b[:n]) != hook {
			t.Errorf("%s: %q, %v", network, b[:n], err)
		}
		quiet, theirs := accept()
		defer theirs.Close()
		if n, err := quiet.Read(b); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s, nothing came: %d bytes, %v", network, n, err)
		}
	}
}
