package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/coder/websocket"
)

// Routes adds the HTTP side to mux.
//
//	GET /work?ms=N            sleeps N ms, answers 200 (default 100)
//	GET /stream?ms=N&chunks=M one line every N ms, M times, in one chunked response
//	GET /raw?ms=N             takes the connection over, answers by hand after N ms, closes it
//	GET /ws                   WebSocket echo; closed with 1001 when the process drains
func (s *Service) Routes(mux *http.ServeMux) {
	mux.HandleFunc("GET /work", s.work)
	mux.HandleFunc("GET /stream", s.stream)
	mux.HandleFunc("GET /raw", s.raw)
	mux.HandleFunc("GET /ws", s.echo)
}

func (s *Service) work(w http.ResponseWriter, r *http.Request) {
	d, err := milliseconds(r, defaultWork)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if sleep(r.Context(), d) != nil {
		return // the client has gone
	}
	_, _ = fmt.Fprintf(w, "worked %d ms\n", d.Milliseconds())
}

func (s *Service) stream(w http.ResponseWriter, r *http.Request) {
	d, err := milliseconds(r, defaultWork)
	chunks, cerr := number(r, "chunks", 10)
	if err = errors.Join(err, cerr); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out := http.NewResponseController(w)
	for i := range chunks {
		if _, err := fmt.Fprintf(w, "chunk %d\n", i); err != nil || out.Flush() != nil {
			return
		}
		if sleep(r.Context(), d) != nil {
			return
		}
	}
}

func (s *Service) raw(w http.ResponseWriter, r *http.Request) {
	d, err := milliseconds(r, defaultWork)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "only on HTTP/1.1: "+err.Error(), http.StatusHTTPVersionNotSupported)
		return
	}
	defer conn.Close()
	if sleep(context.WithoutCancel(r.Context()), d) == nil {
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\nX-Pod: "+s.Pod+"\r\n\r\nraw\n")
	}
}

func (s *Service) echo(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered
	}
	defer func() { _ = conn.CloseNow() }()
	ctx, stop := context.WithCancel(context.WithoutCancel(r.Context()))
	defer stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			kind, msg, err := conn.Read(ctx)
			if err != nil || conn.Write(ctx, kind, msg) != nil {
				return
			}
		}
	}()
	select {
	case <-ended:
	case <-s.Draining():
		_ = conn.Close(websocket.StatusGoingAway, "this replica is going away, connect again")
		<-ended
	}
}

func milliseconds(r *http.Request, absent time.Duration) (time.Duration, error) {
	n, err := number(r, "ms", absent.Milliseconds())
	return time.Duration(n) * time.Millisecond, err
}

func number(r *http.Request, name string, absent int64) (int64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return absent, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > maxWork.Milliseconds() {
		return 0, fmt.Errorf("%s is %.40q, want a whole number from 0 to %d", name, text, maxWork.Milliseconds())
	}
	return n, nil
}
