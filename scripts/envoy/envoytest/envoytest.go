// Package envoytest starts a real Envoy for a test, on ports of its own, and ends it with the test.
package envoytest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/scripts/envoy/envoybin"
	"github.com/drain-agent/drain-agent/scripts/synced"
)

// readyWithin bounds the start of Envoy, on a machine that is busy with other tests.
const readyWithin = 30 * time.Second

// Envoy is a running Envoy.
type Envoy struct {
	AdminURL  string            // http://127.0.0.1:PORT or unix:///path, as the agent's --envoy-admin takes it
	Listeners map[string]string // host:port by listener name: inbound, and outbound, tcp where asked for
	Pid       int
	Exited    chan struct{} // closed when the process is gone

	admin *http.Client
	cmd   *exec.Cmd
	log   synced.Buffer
}

// Start starts an Envoy and returns when its admin endpoint says ready. It fails the test when Envoy cannot be found,
// exits or is not ready within 30 s. The test's end kills it. Its log goes to the test's output and artifacts.
func Start(tb testing.TB, options Options) *Envoy {
	tb.Helper()
	binary, err := envoybin.Path(tb.Context(), options.Version)
	if err != nil {
		tb.Fatal(err)
	}
	bootstrap, err := options.Render()
	if err != nil {
		tb.Fatal(err)
	}
	dir := tb.TempDir()
	config, adminFile := filepath.Join(dir, "bootstrap.yaml"), filepath.Join(dir, "admin")
	if err := os.WriteFile(config, []byte(bootstrap), 0o600); err != nil {
		tb.Fatal(err)
	}
	untilCleanup := context.WithoutCancel(tb.Context()) // it outlives the cleanups that the test registers after this
	e := &Envoy{
		Exited: make(chan struct{}),
		cmd:    exec.CommandContext(untilCleanup, binary, options.commandLine(config, adminFile)...),
	}
	e.launch(tb)
	ctx, cancel := context.WithTimeout(tb.Context(), readyWithin)
	defer cancel()
	if err := e.findAdmin(ctx, adminFile); err != nil {
		tb.Fatalf("%v; its log:\n%s", err, e.Log())
	}
	if err := e.untilReady(ctx); err != nil {
		tb.Fatalf("%v; its log:\n%s", err, e.Log())
	}
	return e
}

// launch starts the process and has the test's end kill it, whatever happens in between.
func (e *Envoy) launch(tb testing.TB) {
	tb.Helper()
	file, err := os.CreateTemp(tb.ArtifactDir(), "envoy-*.log")
	if err != nil {
		tb.Fatal(err)
	}
	sink := io.MultiWriter(&e.log, file, tb.Output())
	e.cmd.Stdout, e.cmd.Stderr = sink, sink
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := e.cmd.Start(); err != nil {
		tb.Fatalf("start envoy: %v", err)
	}
	e.Pid = e.cmd.Process.Pid
	go func() {
		_ = e.cmd.Wait() // the code is read from ProcessState by ExitCode
		close(e.Exited)
	}()
	tb.Cleanup(func() {
		e.Kill()
		file.Close()
	})
}

// findAdmin learns the admin address from the file that Envoy writes once it listens, so that port 0 works.
func (e *Envoy) findAdmin(ctx context.Context, file string) error {
	address, err := poll(ctx, e, "for its admin address", func() (string, bool) {
		text, err := os.ReadFile(file)
		return string(text), err == nil && len(text) > 0
	})
	if err != nil {
		return err
	}
	network := "tcp"
	e.AdminURL = "http://" + address
	if strings.HasPrefix(address, "/") {
		network, e.AdminURL = "unix", "unix://"+address
	}
	dialer := &net.Dialer{}
	e.admin = &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, // no connection of ours stays in what a test counts
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, address)
		},
	}}
	return nil
}

func (e *Envoy) untilReady(ctx context.Context) error {
	_, err := poll(ctx, e, "to be ready", func() (string, bool) {
		code, _, err := e.Admin(ctx, http.MethodGet, "/ready")
		return "", err == nil && code == http.StatusOK
	})
	if err != nil {
		return err
	}
	_, reply, err := e.Admin(ctx, http.MethodGet, "/listeners?format=json")
	if err != nil {
		return fmt.Errorf("ask envoy for its listeners: %w", err)
	}
	e.Listeners, err = parseListeners(reply)
	return err
}

// poll calls try until it is true, the process is gone or ctx ends.
func poll(ctx context.Context, e *Envoy, what string, try func() (string, bool)) (string, error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if value, done := try(); done {
			return value, nil
		}
		select {
		case <-e.Exited:
			return "", fmt.Errorf("wait for envoy %s: it exited with %d", what, e.ExitCode())
		case <-ctx.Done():
			return "", fmt.Errorf("wait for envoy %s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
}

func parseListeners(reply string) (map[string]string, error) {
	var list struct {
		ListenerStatuses []struct {
			Name         string `json:"name"`
			LocalAddress struct {
				SocketAddress struct {
					Address   string `json:"address"`
					PortValue int    `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := json.Unmarshal([]byte(reply), &list); err != nil {
		return nil, fmt.Errorf("read envoy's listeners from %q: %w", reply, err)
	}
	found := map[string]string{}
	for _, l := range list.ListenerStatuses {
		socket := l.LocalAddress.SocketAddress
		found[l.Name] = net.JoinHostPort(socket.Address, fmt.Sprint(socket.PortValue))
	}
	return found, nil
}

// Admin sends one request to the admin endpoint and returns the status and the body.
func (e *Envoy) Admin(ctx context.Context, method, path string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://envoy"+path, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := e.admin.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// Inbound returns the address of the inbound listener, host:port.
func (e *Envoy) Inbound() string { return e.Listeners["inbound"] }

// Signal sends sig to Envoy. After its end it does nothing.
func (e *Envoy) Signal(sig os.Signal) { _ = e.cmd.Process.Signal(sig) }

// Kill sends SIGKILL and waits for the end.
func (e *Envoy) Kill() {
	e.Signal(syscall.SIGKILL)
	<-e.Exited
}

// Stop sends SIGTERM, as kubelet does, and waits for the end.
func (e *Envoy) Stop() {
	e.Signal(syscall.SIGTERM)
	<-e.Exited
}

// ExitCode returns the exit code, -1 when a signal ended Envoy. Call it only once Exited is closed.
func (e *Envoy) ExitCode() int { return e.cmd.ProcessState.ExitCode() }

// Log returns everything Envoy has written so far.
func (e *Envoy) Log() string { return e.log.String() }
