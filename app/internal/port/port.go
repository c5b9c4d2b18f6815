// Package port serves HTTP/1.1, HTTP/2 without TLS and gRPC on one TCP port, and stops without losing a request:
// listener first, then a notice to everybody connected, then the wait for what is in flight.
package port

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// linger is how long a stopping server still takes requests on open HTTP/2 connections after the notice:
// those that were on their way when it left.
const linger = 100 * time.Millisecond

const (
	headerTime = 10 * time.Second // from a request's first byte to the end of its header
	idleTime   = 10 * time.Minute // without a request; longer than any client's: a server that closes first loses requests
)

// Server serves one port. Make it with Listen.
type Server struct {
	http     *http.Server
	listener net.Listener
	leaving  atomic.Bool // HTTP/1 responses carry Connection: close
	served   chan error

	mu    sync.Mutex
	conns map[*conn]struct{}
}

// Listen binds addr and serves handler there in the background.
// It fails when the address is taken or not ours.
func Listen(ctx context.Context, addr string, handler http.Handler) (*Server, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("serve %s: %w", addr, err)
	}
	return serve(ln, handler), nil
}

func serve(ln net.Listener, handler http.Handler) *Server {
	s := &Server{listener: ln, served: make(chan error, 1), conns: map[*conn]struct{}{}}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s.http = &http.Server{
		Handler:           s.sayClose(handler),
		Protocols:         &protocols,
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
	}
	go func() {
		if err := s.http.Serve(tracking{ln, s}); !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
			s.served <- err
		}
	}()
	return s
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Failed delivers the reason when the server ends without having been stopped.
func (s *Server) Failed() <-chan error { return s.served }

// Drain asks everybody connected to go elsewhere and refuses nobody: HTTP/2 connections that are open now get a
// GOAWAY notice, HTTP/1 responses say Connection: close until Undrain. It may be called again.
func (s *Server) Drain() {
	s.leaving.Store(true)
	for _, c := range s.open() {
		c.goAway()
	}
}

// Undrain lets HTTP/1 connections be kept alive again.
func (s *Server) Undrain() { s.leaving.Store(false) }

// CloseListener refuses new connections; those that are open are served as before.
func (s *Server) CloseListener() error {
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close the listener: %w", err)
	}
	return nil
}

// Stop closes the listener, says goodbye, and waits until every request has been answered. When ctx ends first,
// what is still running is cut off and the error says so. Hijacked connections are their handlers' business.
func (s *Server) Stop(ctx context.Context) error {
	if err := s.CloseListener(); err != nil {
		return err
	}
	s.Drain()
	select {
	case <-time.After(linger):
	case <-ctx.Done():
	}
	for _, c := range s.open() {
		if c.silent() { // net/http would wait 5 s for its first request
			_ = c.Close()
		}
	}
	if err := s.http.Shutdown(ctx); err != nil {
		_ = s.http.Close()
		return fmt.Errorf("finish the requests in flight: %w", err)
	}
	return nil
}

// sayClose decides at the last moment, when the response header is written: the drain may begin in mid-request.
func (s *Server) sayClose(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 1 {
			w = &closer{ResponseWriter: w, leaving: &s.leaving}
		}
		next.ServeHTTP(w, r)
	})
}

type closer struct {
	http.ResponseWriter
	leaving *atomic.Bool
	wrote   bool
}

func (c *closer) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *closer) WriteHeader(code int) {
	c.mark()
	c.ResponseWriter.WriteHeader(code)
}

func (c *closer) Write(b []byte) (int, error) {
	c.mark()
	return c.ResponseWriter.Write(b)
}

func (c *closer) mark() {
	if !c.wrote && c.leaving.Load() {
		c.Header().Set("Connection", "close")
	}
	c.wrote = true
}

func (s *Server) open() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	return all
}

type tracking struct {
	net.Listener
	server *Server
}

func (t tracking) Accept() (net.Conn, error) {
	raw, err := t.Listener.Accept()
	if err != nil {
		return nil, err
	}
	s := t.server
	c := &conn{Conn: raw, onClose: func(c *conn) {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, c)
	}}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
	return c, nil
}
