package server

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

// verbs are what an operator can ask for over the control socket.
var verbs = []string{"drain", "undrain", "finish"}

// maxControlBody bounds the body of an operator's request, and so the length of a reason.
const maxControlBody = 4 << 10

type operateRequest struct {
	Reason string `json:"reason"`
}

type operateReply struct {
	Message string `json:"message,omitempty"`
	Error   string `json:"error,omitempty"`
}

// controlRoutes are served on the Unix socket: the hooks for every peer, the rest for whoever may command us.
func (s *Server) controlRoutes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/prestop/{container...}", s.hook)
	mux.HandleFunc("/prestop", s.hook)
	mux.Handle("GET /status", operators(http.HandlerFunc(s.status)))
	for _, verb := range verbs {
		mux.Handle("POST /"+verb, operators(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.operate(w, r, verb) })))
	}
	return mux
}

func (s *Server) operate(w http.ResponseWriter, r *http.Request, verb string) {
	req, err := readReason(http.MaxBytesReader(w, r.Body, maxControlBody))
	if err != nil {
		writeJSON(w, http.StatusBadRequest, operateReply{Error: err.Error()})
		return
	}
	message, err := s.agent.Operate(verb, req.Reason)
	if err != nil {
		writeJSON(w, http.StatusConflict, operateReply{Error: err.Error()})
		return
	}
	writeJSON(w, http.StatusOK, operateReply{Message: message})
}

func readReason(body io.Reader) (operateRequest, error) {
	var req operateRequest
	dec := json.NewDecoder(body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		return req, fmt.Errorf(`read the request: want {"reason":"…"}: %w`, err)
	}
	req.Reason = cmp.Or(strings.TrimSpace(req.Reason), "no reason given")
	return req, nil
}

// operators lets our own UID and root pass. A container under another UID shares the socket only to call its hook.
func operators(next http.Handler) http.Handler {
	return reply(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !mayOperate(r) {
			p := peerFrom(r)
			writeJSON(w, http.StatusForbidden, operateReply{Error: fmt.Sprintf(
				"only UID %d and root may do this; you are %s", os.Getuid(), p)})
			return
		}
		next.ServeHTTP(w, r)
	}))
}

func mayOperate(r *http.Request) bool { return peerFrom(r).commands(os.Getuid()) }

// peer is who stands at the other end of a Unix socket. The zero value is nobody we know.
type peer struct {
	uid   int
	known bool
}

// commands reports whether the peer may command a process of the given UID.
func (p peer) commands(uid int) bool { return p.known && (p.uid == 0 || p.uid == uid) }

// String names the peer for messages.
func (p peer) String() string {
	if !p.known {
		return "an unknown UID"
	}
	return fmt.Sprintf("UID %d", p.uid)
}

type peerContextKey struct{}

func withPeer(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, peerContextKey{}, peerOf(conn))
}

func peerFrom(r *http.Request) peer {
	p, _ := r.Context().Value(peerContextKey{}).(peer)
	return p
}

// listenControl opens the socket with mode 0660. It replaces the socket an earlier process left behind, and nothing else.
func listenControl(path string) (net.Listener, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	ln, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s exists and is no socket; give another path or remove it", path)
	}
	dialer := &net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(context.Background(), "unix", path)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("another process answers on %s; give another path or stop that process", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("find out whether %s is in use: %w", path, err)
	}
	return os.Remove(path)
}
