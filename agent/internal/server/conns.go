package server

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// conns keeps the number of open connections below a limit without ever refusing a new one, because the new one may be
// kubelet with a hook, and a hook that is refused means that its container is stopped at once. When it is full, the peer
// with the most connections loses one: its oldest on which nothing is asked, else its newest.
// Whoever floods the port so pushes out only himself.
type conns struct {
	max   int
	http2 int // how many of them may speak HTTP/2, each of which can claim a buffer of 16 KiB

	mu    sync.Mutex
	order uint64
	open  map[net.Conn]*connInfo
	peers map[string]int // open connections by peer
	spoke int            // open connections that speak HTTP/2

	closing bool // whoever still comes is too late
}

type connInfo struct {
	peer  string
	order uint64 // of being accepted
	busy  bool   // a whole request was read and is not answered; half a request is nothing that anyone waits for
	http2 bool   // it speaks HTTP/2
}

func newConns(limit int) *conns {
	return &conns{max: limit, http2: maxHTTP2Conns, open: map[net.Conn]*connInfo{}, peers: map[string]int{}}
}

type limitedListener struct {
	net.Listener
	conns *conns
}

func (c *conns) limit(ln net.Listener) net.Listener { return limitedListener{ln, c} }

// Accept returns the next connection, after making room for it.
func (l limitedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	switch socket := conn.(type) {
	case *net.TCPConn:
		conn = &listened{TCPConn: socket, conns: l.conns}
	case *net.UnixConn: // the control socket, which does not speak HTTP/2
		conn = &control{UnixConn: socket}
	}
	l.conns.add(conn)
	return conn, nil
}

// listened is a connection whose first bytes say which protocol its peer speaks.
type listened struct {
	*net.TCPConn // net/http wants its CloseWrite, so that a refusal arrives
	conns        *conns
	heard        []byte
}

const preface = "PRI" // of HTTP/2: RFC 9113, section 3.4; no method of HTTP/1.1 begins with it

func (l *listened) Read(b []byte) (int, error) {
	n, err := l.TCPConn.Read(b)
	if len(l.heard) == 0 {
		n, err = whatCame(l.TCPConn, b, n, err)
	}
	if rest := len(preface) - len(l.heard); n > 0 && rest > 0 {
		l.heard = append(l.heard, b[:min(n, rest)]...)
		if string(l.heard) == preface {
			l.conns.speaksHTTP2(l)
		}
	}
	return n, err
}

type control struct {
	*net.UnixConn
	heard bool
}

func (c *control) Read(b []byte) (int, error) {
	n, err := c.UnixConn.Read(b)
	if !c.heard {
		n, err = whatCame(c.UnixConn, b, n, err)
	}
	c.heard = true
	return n, err
}

// whatCame looks again where the deadline of a first read passed: when this process stood still meanwhile (SIGSTOP, no processor), a
// hook lies there unread, and kubelet must not be told that it came too late.
func whatCame(conn net.Conn, b []byte, n int, err error) (int, error) {
	if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err
	}
	if conn.SetReadDeadline(time.Now().Add(100*time.Millisecond)) != nil {
		return n, err
	}
	return conn.Read(b)
}

// speaksHTTP2 makes room among those that do.
func (c *conns) speaksHTTP2(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if info, ok := c.open[conn]; ok {
		info.http2 = true
		c.spoke++
	}
	for c.spoke > c.http2 {
		c.pushOut(func(info *connInfo) bool { return info.http2 })
	}
}

// Close may be called twice: by us, before the quiet connections are closed, and by net/http.
func (l limitedListener) Close() error {
	if err := l.Listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

func (c *conns) add(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.order++
	c.open[conn] = &connInfo{peer: peerKey(conn), order: c.order}
	c.peers[peerKey(conn)]++
	if c.closing {
		_ = conn.Close()
	}
	for len(c.open) > c.max {
		c.pushOut(func(*connInfo) bool { return true })
	}
}

// pushOut closes the connection that hurts least of those that may be chosen: of the heaviest peer, quiet before busy, of the quiet
// ones the oldest, of the busy ones the newest.
func (c *conns) pushOut(may func(*connInfo) bool) {
	var worst net.Conn
	for conn, info := range c.open {
		if may(info) && (worst == nil || c.worse(info, c.open[worst])) {
			worst = conn
		}
	}
	c.remove(worst)
	_ = worst.Close()
}

func (c *conns) worse(a, b *connInfo) bool {
	if d := cmp.Compare(c.peers[a.peer], c.peers[b.peer]); d != 0 {
		return d > 0
	}
	if a.busy != b.busy {
		return b.busy
	}
	if a.busy {
		return a.order > b.order
	}
	return a.order < b.order
}

func (c *conns) remove(conn net.Conn) {
	info, ok := c.open[conn]
	if !ok {
		return
	}
	delete(c.open, conn)
	if info.http2 {
		c.spoke--
	}
	if c.peers[info.peer]--; c.peers[info.peer] == 0 {
		delete(c.peers, info.peer)
	}
}

// changed is the server's ConnState hook. StateActive says nothing here: net/http sets it at the first byte of a request, so that a
// flood of headers that never end would look busy, and the newcomer beside it would be the one that goes.
func (c *conns) changed(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew, http.StateActive:
	case http.StateIdle:
		c.setBusy(conn, false)
	case http.StateClosed, http.StateHijacked:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.remove(conn)
	}
}

func (c *conns) setBusy(conn net.Conn, busy bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if info, ok := c.open[conn]; ok {
		info.busy = busy
	}
}

type connContextKey struct{}

func withConn(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connContextKey{}, conn)
}

// asked marks the connection of each request that was read whole.
func (c *conns) asked(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if conn, ok := r.Context().Value(connContextKey{}).(net.Conn); ok {
			c.setBusy(conn, true)
		}
		next.ServeHTTP(w, r)
	})
}

// closeQuiet closes every connection on which nothing is asked, now and from now on.
func (c *conns) closeQuiet() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing = true
	for conn, info := range c.open {
		if !info.busy {
			c.remove(conn)
			_ = conn.Close()
		}
	}
}

// peerKey says who a connection belongs to: the address without its port, or the UID behind a Unix socket.
func peerKey(conn net.Conn) string {
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return tcp.IP.String()
	}
	return peerOf(conn).String()
}
