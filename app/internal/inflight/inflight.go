// Package inflight counts the work a process has not finished: requests of every protocol, hijacked connections,
// background jobs. Zero means that a stop right now would cut nothing.
package inflight

import (
	"bufio"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
)

// Kind says what sort of work is counted.
type Kind string

// The kinds of work.
const (
	HTTP     Kind = "http"     // a request whose handler has not returned
	GRPC     Kind = "grpc"     // a unary call or a stream
	Hijacked Kind = "hijacked" // a connection taken over by its handler (WebSocket, raw), until it is closed
	Batch    Kind = "batch"    // a batch this replica works on
)

// Kinds lists every kind, in the order they are exposed.
func Kinds() []Kind { return []Kind{HTTP, GRPC, Hijacked, Batch} }

// Counter counts work in flight. Its zero value is ready to use; it is safe for concurrent use.
type Counter struct {
	http, grpc, hijacked, batch atomic.Int64
}

// Begin counts one more piece of work. Call the returned function when it has ended; calling it again does nothing.
func (c *Counter) Begin(k Kind) (end func()) {
	n := c.of(k)
	n.Add(1)
	return sync.OnceFunc(func() { n.Add(-1) })
}

// Of returns how much work of one kind is in flight.
func (c *Counter) Of(k Kind) int64 { return c.of(k).Load() }

// Total returns how much work is in flight.
func (c *Counter) Total() (n int64) {
	for _, k := range Kinds() {
		n += c.of(k).Load()
	}
	return n
}

func (c *Counter) of(k Kind) *atomic.Int64 {
	switch k {
	case GRPC:
		return &c.grpc
	case Hijacked:
		return &c.hijacked
	case Batch:
		return &c.batch
	default:
		return &c.http
	}
}

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
		kind := HTTP
		if IsGRPC(r) {
			kind = GRPC
		}
		end := c.Begin(kind)
		defer end()
		next.ServeHTTP(&writer{ResponseWriter: w, counter: c, end: end}, r)
	})
}

// IsGRPC reports whether r is a gRPC call.
func IsGRPC(r *http.Request) bool {
	return r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}

type writer struct {
	http.ResponseWriter
	counter *Counter
	end     func() // of the request
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
	taken := &hijacked{Conn: conn, end: w.counter.Begin(Hijacked)}
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
