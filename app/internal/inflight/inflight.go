// Package inflight counts the work a process has not finished: requests of every protocol, hijacked connections,
// background jobs. Zero means that a stop right now would cut nothing.
package inflight

import (
	"bufio"
	"net"
	"net/http"
	"strings"
	"sync"

	"google.golang.org/grpc"
)

// Kind says what sort of work is counted.
type Kind string

// The kinds of work.
const (
	HTTP       Kind = "http"        // a request whose handler has not returned
	GRPC       Kind = "grpc"        // a unary call
	GRPCStream Kind = "grpc_stream" // a streaming call; it may last as long as its client likes
	WebSocket  Kind = "websocket"   // a connection taken over after an upgrade to WebSocket, until it is closed
	Hijacked   Kind = "hijacked"    // any other connection taken over by its handler
	Batch      Kind = "batch"       // a batch this replica works on
)

// Kinds lists every kind, in the order they are exposed.
func Kinds() []Kind { return []Kind{HTTP, GRPC, GRPCStream, WebSocket, Hijacked, Batch} }

// Counter counts work in flight. Its zero value is ready to use; it is safe for concurrent use.
type Counter struct {
	mu sync.Mutex
	n  map[Kind]int64
}

// Begin counts one more piece of work. Call the returned function when it has ended; calling it again does nothing.
func (c *Counter) Begin(k Kind) (end func()) {
	c.add(k, 1)
	return sync.OnceFunc(func() { c.add(k, -1) })
}

func (c *Counter) add(k Kind, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[Kind]int64{}
	}
	c.n[k] += n
}

// Of returns how much work of these kinds is in flight.
func (c *Counter) Of(kinds ...Kind) (n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range kinds {
		n += c.n[k]
	}
	return n
}

// Total returns how much work is in flight.
func (c *Counter) Total() int64 { return c.Of(Kinds()...) }

// Handler counts every request that passes through it, from the moment its header was read until its handler has
// returned. A connection that next hijacks is counted on, until somebody closes it: http.Server.Shutdown would
// neither wait for it nor mention it. Health checks are not work: a client that watches our health holds its call open
// for ever.
func (c *Counter) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/grpc.health.v1.Health/") {
			next.ServeHTTP(w, r)
			return
		}
		kind, taken := HTTP, Hijacked
		if IsGRPC(r) {
			kind = GRPC
		}
		if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
			taken = WebSocket
		}
		end := c.Begin(kind)
		defer end()
		next.ServeHTTP(&writer{ResponseWriter: w, counter: c, end: end, taken: taken}, r)
	})
}

// Stream counts a streaming call apart from the unary ones: what passes through Handler cannot be told apart there.
// It is a grpc.StreamServerInterceptor of the server behind Handler.
func (c *Counter) Stream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	if strings.HasPrefix(info.FullMethod, "/grpc.health.v1.Health/") {
		return handle(srv, s)
	}
	c.move(GRPC, GRPCStream)
	defer c.move(GRPCStream, GRPC) // Handler ends it
	return handle(srv, s)
}

// move keeps the total as it is at every instant.
func (c *Counter) move(from, to Kind) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[from]--
	c.n[to]++
}

// IsGRPC reports whether r is a gRPC call.
func IsGRPC(r *http.Request) bool {
	return r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}

type writer struct {
	http.ResponseWriter
	counter *Counter
	end     func() // of the request
	taken   Kind   // of the connection, once it is taken over
}

// Unwrap lets http.ResponseController find what this writer does not have.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Flush is needed by name: gRPC asks for an http.Flusher.
func (w *writer) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// Hijack hands the connection over and counts it, no longer the request, until it is closed.
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	taken := &hijacked{Conn: conn, end: w.counter.Begin(w.taken)}
	w.end()
	return taken, rw, nil
}

type hijacked struct {
	net.Conn
	end func()
}

func (c *hijacked) Close() error {
	defer c.end()
	return c.Conn.Close()
}
