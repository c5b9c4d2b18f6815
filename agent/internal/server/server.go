// Package server is what the agent shows of itself: hooks for kubelet, probes, status and metrics on one TCP port,
// and the operator's control socket. It decides nothing; it sees the agent only through the functions in [Agent].
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/drain-agent/drain-agent/probes"
)

// Limits of the two listeners. The hook port can be reached by every pod the network admits, so each connection is paid for:
// about 14 KiB of ours and two buffers of the kernel's.
const (
	maxConns        = 160
	maxHTTP2Conns   = 8 // of them; a gRPC probe is one connection, and ends it
	maxControlConns = 128
	maxHeaderBytes  = 8 << 10
	headerTimeout   = 5 * time.Second  // from the first byte asked for to the last header byte
	idleTimeout     = 60 * time.Second // of a kept-alive connection; also after how long an unread request body is given up
	replyTimeout    = 10 * time.Second // to take a reply, hooks excepted
	maxReplies      = 4                // of status and metrics on their way at once, each in memory until it was taken; twice as many where each peer has one
	maxPeerReplies  = 2                // of them, to one peer
	replyWait       = 5 * time.Second  // for a place among them
	longReply       = 2 * time.Second  // to take one of them
	maxEvents       = 64               // in a reply of GET /status on the port
)

// Agent is what the faces need of the agent. All functions must be safe for concurrent use and none may be nil.
type Agent struct {
	// Hook says that the stop hook of a container was called and blocks until the container may be stopped.
	// Authentic means that the caller proved not to be just any pod: see [Options.TokenFile].
	// When ctx ends, nobody listens any more and Hook must return soon; the call stays a fact all the same.
	Hook func(ctx context.Context, container string, authentic bool) HookAnswer
	// Status returns what GET /status shows, ready for encoding/json: of the events, the newest ones of the page.
	Status func(EventPage) any
	// Operate carries out an operator's verb: drain, undrain or finish. The string tells the operator what happens now;
	// an error says why it does not.
	Operate func(verb, reason string) (string, error)
}

// EventPage is a part of the timeline: at most Limit events, all before the one with the number Before. 0 is no bound.
type EventPage struct{ Before, Limit int }

// HookAnswer is the body of GET /prestop/{container}.
type HookAnswer struct {
	Container string `json:"container"`
	HeldMS    int64  `json:"held_ms"`
	Phase     string `json:"phase"`
	Outcome   string `json:"outcome"`
}

// Options say where the faces are. An empty field switches its face off, unless said otherwise.
type Options struct {
	Listen    string           // host:port of hooks, probes, metrics and status; must be set
	Control   string           // path of the control socket
	TokenFile string           // file with the token that makes a hook call authentic; read at every call that carries one
	Metrics   http.Handler     // GET /metrics
	Probes    *probes.Registry // /startupz, /livez, /readyz, /syntheticz and gRPC health, on the hook port
	// Warn takes what a person should know and the agent can live with, each thing once. Nil drops it.
	Warn func(problem string)
}

// Server is the two listeners with what they serve.
type Server struct {
	agent   Agent
	opts    Options
	token   token
	replies *replies
	public  face
	control face
	grpc    *grpc.Server
	serving sync.WaitGroup
}

// face is one listener, its connections and its HTTP server. The listener is nil until it is up.
type face struct {
	http     *http.Server
	conns    *conns
	listener net.Listener
}

// New returns a server that does not listen yet.
func New(agent Agent, opts Options) (*Server, error) {
	if agent.Hook == nil || agent.Status == nil || agent.Operate == nil {
		return nil, errors.New("build server: Agent needs all of Hook, Status and Operate")
	}
	if opts.Listen == "" {
		return nil, errors.New("build server: Options.Listen is empty; kubelet could call no hook")
	}
	if opts.Warn == nil {
		opts.Warn = func(string) {}
	}
	s := &Server{agent: agent, opts: opts, token: token{path: opts.TokenFile}, replies: newReplies()}
	if err := s.token.check(); err != nil {
		opts.Warn(err.Error())
	}
	s.public = newFace(s.routes(), maxConns, opts.Warn)
	if opts.Probes != nil {
		s.addGRPC()
	}
	s.control = newFace(s.controlRoutes(), maxControlConns, opts.Warn)
	s.control.http.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return withPeer(withConn(ctx, conn), conn)
	}
	return s, nil
}

func newFace(handler http.Handler, limit int, warn func(string)) face {
	c := newConns(limit)
	return face{conns: c, http: &http.Server{
		Handler:           c.asked(handler),
		ConnContext:       withConn,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ConnState:         c.changed,
		ErrorLog:          log.New(panicWriter(warn), "", 0),
	}}
}

// Start opens the listeners and serves them until Shutdown. Errors do not stop what could be started: without a control
// socket the hooks still work, and without the port an exec hook still does. [Server.Addr] tells whether the port is open.
func (s *Server) Start() error {
	var errs []error
	if ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", s.opts.Listen); err != nil {
		errs = append(errs, fmt.Errorf("open the hook port: %w", err))
	} else {
		s.serve(&s.public, ln)
	}
	if s.opts.Control != "" {
		if ln, err := listenControl(s.opts.Control); err != nil {
			errs = append(errs, fmt.Errorf("open the control socket: %w", err))
		} else {
			s.serve(&s.control, ln)
		}
	}
	return errors.Join(errs...)
}

func (s *Server) serve(f *face, ln net.Listener) {
	f.listener = ln
	s.serving.Go(func() {
		if err := f.http.Serve(f.conns.limit(ln)); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			s.opts.Warn(fmt.Sprintf("serve %s: %v", ln.Addr(), err))
		}
	})
}

// Addr is the address of the hook port, nil when it is not open.
func (s *Server) Addr() net.Addr {
	if s.public.listener == nil {
		return nil
	}
	return s.public.listener.Addr()
}

// Shutdown closes the listeners and the connections on which nothing is asked, waits until every reply under way has left,
// and returns. When ctx ends first, the rest is cut off and its error returned.
func (s *Server) Shutdown(ctx context.Context) error {
	if s.grpc != nil {
		s.grpc.Stop() // a watch never ends by itself
	}
	err := errors.Join(s.public.stop(ctx), s.control.stop(ctx))
	s.serving.Wait()
	return err
}

func (f *face) stop(ctx context.Context) error {
	if f.listener == nil {
		return nil
	}
	_ = f.listener.Close()
	f.conns.closeQuiet() // net/http would wait 5 s for a connection that has not asked yet
	if err := f.http.Shutdown(ctx); err != nil {
		_ = f.http.Close()
		return fmt.Errorf("flush replies on %s: %w", f.listener.Addr(), err)
	}
	return nil
}

// panicWriter passes on what net/http says of a panic in one of our functions. The rest of its log is what strangers send.
type panicWriter func(string)

var _ io.Writer = panicWriter(nil)

func (warn panicWriter) Write(line []byte) (int, error) {
	if s := string(line); strings.Contains(s, "panic serving") {
		warn(strings.TrimSpace(s))
	}
	return len(line), nil
}
