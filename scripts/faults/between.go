package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// Ports of the container that stands between the agent and what it reads. Each side answers PUT /-/HOW, which says how it treats
// requests from then on: pass, slow, garbage, huge, cut, half, silent.
const (
	adminBetween = 15001 // in front of Envoy's admin
	appBetween   = 15003 // in front of the app's management port
)

// inPod does what the program is started for as a container of a pod. It returns in the program that people start.
func inPod(args []string) {
	if len(args) == 0 {
		return
	}
	var err error
	switch args[0] {
	case "between":
		err = stand()
	case "wrap":
		err = wrap(args[1], args[2:])
	default:
		return
	}
	fmt.Fprintln(os.Stderr, "faults:", err)
	os.Exit(1)
}

// wrap becomes the program, after it took something from it.
func wrap(what string, argv []string) error {
	switch what {
	case "files":
		limit := syscall.Rlimit{Cur: 24, Max: 24}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			return fmt.Errorf("limit open files: %w", err)
		}
	case "closed": // a pipe that nobody reads any more
		r, w, err := os.Pipe()
		if err != nil {
			return fmt.Errorf("make a pipe: %w", err)
		}
		for _, fd := range []int{1, 2} {
			if err := syscall.Dup3(int(w.Fd()), fd, 0); err != nil {
				return fmt.Errorf("replace output %d: %w", fd, err)
			}
		}
		r.Close()
	case "clock":
		return clocked(argv)
	case "clock-inside":
		return insideClock(argv)
	}
	return fmt.Errorf("become %s: %w", argv[0], syscall.Exec(argv[0], argv, os.Environ()))
}

func stand() error {
	failed := make(chan error)
	for listen, target := range map[int]string{adminBetween: "127.0.0.1:15000", appBetween: "127.0.0.1:8090"} {
		go func() {
			server := &http.Server{Addr: fmt.Sprintf(":%d", listen), Handler: newSide(target), ReadHeaderTimeout: time.Minute}
			failed <- server.ListenAndServe()
		}()
	}
	return <-failed
}

// side is one of the two.
type side struct {
	how  atomic.Value
	pass http.Handler
}

func newSide(target string) *side {
	s := &side{pass: httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: target})}
	s.how.Store("pass")
	return s
}

func (s *side) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if how, ok := bytes.CutPrefix([]byte(r.URL.Path), []byte("/-/")); ok {
		s.how.Store(string(how))
		return
	}
	switch s.how.Load() {
	case "slow":
		wait(r.Context(), 2*time.Second)
		s.pass.ServeHTTP(w, r)
	case "garbage":
		_, _ = io.WriteString(w, "\x00\xff{]: http.inbound.downstream_rq_active: -1\nactive_requests NaN\n<html>")
	case "huge":
		line := bytes.Repeat([]byte("x"), 1<<16)
		for range 1 << 10 { // 64 MiB, if somebody takes it
			if _, err := w.Write(line); err != nil {
				return
			}
		}
	case "cut":
		panic(http.ErrAbortHandler) // hangs up, as net/http documents
	case "half":
		w.Header().Set("Content-Length", "100000")
		_, _ = io.WriteString(w, "{")
		_ = http.NewResponseController(w).Flush()
		wait(r.Context(), time.Minute)
	case "silent":
		wait(r.Context(), time.Minute)
	default:
		s.pass.ServeHTTP(w, r)
	}
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
