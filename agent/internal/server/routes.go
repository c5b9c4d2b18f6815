package server

import (
	"cmp"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// TokenHeader carries the proof that a hook call comes from this pod's own manifest.
const TokenHeader = "Drain-Agent-Token"

// maxName is the longest container name Kubernetes admits (a DNS label). What a caller sends beyond it is cut.
const maxName = 63

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/prestop/{container...}", s.hook)
	mux.HandleFunc("/prestop", s.hook)
	mux.Handle("GET /status", reply(s.replies.bounded(http.HandlerFunc(s.publicStatus))))
	if s.opts.Metrics != nil {
		mux.Handle("GET /metrics", reply(s.replies.bounded(s.opts.Metrics)))
	}
	if s.opts.Probes != nil {
		asked := http.NewServeMux()
		s.opts.Probes.RegisterHTTP(asked)
		mux.Handle("/", reply(asked))
	}
	return mux
}

// hook holds the call until the agent lets the container go. Kubelet takes any answer for leave to stop the container,
// so a name that is none of ours, or no name at all, is held as well: the agent knows what to do with it.
func (s *Server) hook(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "a hook is called with GET", http.StatusMethodNotAllowed)
		return
	}
	giveUpBody(w, r)
	authentic := s.authentic(r)
	clear(r.Header) // up to 8 KiB that nobody needs while the hook is held
	answer := s.agent.Hook(r.Context(), containerName(r), authentic)
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // nobody listens; an empty 200 would be a lie
	}
	writeJSON(w, http.StatusOK, answer)
}

// giveUpBody keeps a caller who announced a body and does not send it from holding up our answer: what is not here by then
// is not waited for.
func giveUpBody(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Second))
	}
}

func containerName(r *http.Request) string {
	name := strings.Trim(r.PathValue("container"), "/")
	if len(name) > maxName {
		name = name[:maxName]
	}
	return strings.ToValidUTF8(name, "?")
}

// status is for operators: with everything that is remembered.
func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, s.agent.Status(EventPage{}))
}

// publicStatus shows the newest events, or with ?before=SEQ those before that one.
func (s *Server) publicStatus(w http.ResponseWriter, r *http.Request) {
	before, err := strconv.Atoi(cmp.Or(r.URL.Query().Get("before"), "0"))
	if err != nil || before < 0 {
		http.Error(w, "before: want the seq of an event", http.StatusBadRequest)
		return
	}
	writeJSON(w, http.StatusOK, s.agent.Status(EventPage{Before: before, Limit: maxEvents}))
}

// reply bounds the time a caller may take to read a reply that is made at once.
func reply(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		giveUpBody(w, r)
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(replyTimeout))
		next.ServeHTTP(w, r)
	})
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "encode reply: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(body, '\n'))
}
