package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Istio's terminationDrainDuration and MINIMUM_DRAIN_DURATION.
const istioDrain = 5 * time.Second

// pilot stands in for Istio's agent: it runs Envoy, and its port 15020 and its end behave as described in Istio's pkg/envoy/agent.go
// and pilot/cmd/pilot-agent/status/server.go.
type pilot struct {
	admin      *http.Client
	exitOnZero bool
	told       atomic.Bool // somebody asked for the drain before SIGTERM
	quit       chan struct{}
}

// fakePilot is the process of the container istio-proxy. It does not return.
func fakePilot(envoy string) {
	p := &pilot{quit: make(chan struct{}, 1), exitOnZero: os.Getenv("EXIT_ON_ZERO_ACTIVE_CONNECTIONS") == "true"}
	p.admin = &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		if socket := os.Getenv("FAKE_PILOT_ADMIN"); socket != "" {
			return d.DialContext(ctx, "unix", socket)
		}
		return d.DialContext(ctx, "tcp", "127.0.0.1:15000")
	}}}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	status, err := net.Listen("tcp", ":15020")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go func() { _ = http.Serve(status, p.routes()) }() //nolint:gosec // a test's server on loopback
	cmd := exec.Command(envoy, os.Args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		os.Exit(exitCode(err))
	case <-term:
	case <-p.quit:
	}
	status.Close()
	p.terminate()
	_ = cmd.Process.Kill()
	<-ended
	os.Exit(0)
}

func exitCode(err error) int {
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		return failed.ExitCode()
	}
	return 0
}

func (p *pilot) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/drain", p.fromLoopback(func() {
		p.told.Store(true)
		p.post("drain_listeners?inboundonly&graceful&skip_exit")
		fmt.Println("pilot: drain asked for")
	}))
	mux.HandleFunc("/quitquitquit", p.fromLoopback(func() { p.quit <- struct{}{} }))
	mux.HandleFunc("GET /healthz/ready", func(w http.ResponseWriter, _ *http.Request) {
		reply, err := p.admin.Get("http://envoy/ready")
		if err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		reply.Body.Close()
		w.WriteHeader(reply.StatusCode)
	})
	mux.HandleFunc("GET /stats/prometheus", func(w http.ResponseWriter, _ *http.Request) {
		for _, from := range []func() (*http.Response, error){
			func() (*http.Response, error) { return p.admin.Get("http://envoy/stats/prometheus") },
			func() (*http.Response, error) { return http.Get("http://127.0.0.1:8090/metrics") },
		} {
			if reply, err := from(); err == nil {
				_, _ = io.Copy(w, reply.Body)
				reply.Body.Close()
			}
		}
	})
	return mux
}

func (p *pilot) fromLoopback(do func()) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !strings.HasPrefix(r.RemoteAddr, "127."):
			w.WriteHeader(http.StatusForbidden)
		case r.Method != http.MethodPost:
			w.WriteHeader(http.StatusMethodNotAllowed)
		default:
			do()
		}
	}
}

func (p *pilot) post(path string) {
	if reply, err := p.admin.Post("http://envoy/"+path, "", http.NoBody); err == nil {
		reply.Body.Close()
	}
}

// terminate is what SIGTERM costs.
func (p *pilot) terminate() {
	if p.told.Load() {
		fmt.Println("pilot: told before, ends at once")
		return
	}
	fmt.Println("pilot: drains for itself")
	p.post("drain_listeners?inboundonly&graceful")
	<-time.After(istioDrain)
	for p.exitOnZero && p.connections() > 0 {
		<-time.After(time.Second)
	}
}

func (p *pilot) connections() (open int) {
	reply, err := p.admin.Get("http://envoy/stats?usedonly&filter=downstream_cx_active$")
	if err != nil {
		return 0
	}
	defer reply.Body.Close()
	text, _ := io.ReadAll(reply.Body)
	for line := range strings.Lines(string(text)) {
		var n int
		name, value, _ := strings.Cut(line, ": ")
		own := strings.Contains(name, "worker_") || strings.Contains(name, "_15021") || strings.Contains(name, "_15090") || strings.Contains(name, "admin")
		if _, err := fmt.Sscan(value, &n); err == nil && strings.HasPrefix(name, "listener.") && !own {
			open += n
		}
	}
	return open
}
