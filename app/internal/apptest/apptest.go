// Package apptest builds the service and runs it as a process of its own, so that tests can do to it what a node does.
package apptest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/scripts/freeport"
)

const pkg = "github.com/drain-agent/drain-agent/app"

// Build compiles the service into bin and returns it. overlay replaces source files, by their absolute path.
func Build(bin string, overlay map[string]string) (string, error) {
	args := []string{"build", "-o", bin}
	if len(overlay) > 0 {
		replace := map[string]string{}
		for path, text := range overlay {
			replace[path] = bin + "-" + filepath.Base(path)
			if err := os.WriteFile(replace[path], []byte(text), 0o600); err != nil {
				return "", err
			}
		}
		data, err := json.Marshal(map[string]any{"Replace": replace})
		if err == nil {
			err = os.WriteFile(bin+"-overlay.json", data, 0o600)
		}
		if err != nil {
			return "", err
		}
		args = append(args, "-overlay", bin+"-overlay.json")
	}
	build := exec.CommandContext(context.Background(), "go", append(args, pkg)...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the service: %w\n%s", err, out)
	}
	return bin, nil
}

// timeToTell is left of go test's time to say what a test waited for, before everything ends without it.
const timeToTell = 10 * time.Second

// App is a service that may be started and killed many times, always on the same ports.
type App struct {
	Addr, Mgmt string // host:port
	Env        []string
	Credential *syscall.Credential

	tb   testing.TB
	bin  string
	args []string
	cmd  *exec.Cmd
	mu   sync.Mutex
	log  bytes.Buffer
}

// New prepares a service. Start starts it; it is killed at the latest when the test ends.
func New(tb testing.TB, bin string, args ...string) *App {
	tb.Helper()
	data, mgmt := freePort(tb), freePort(tb)
	a := &App{
		Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(data)), Mgmt: net.JoinHostPort("127.0.0.1", strconv.Itoa(mgmt)),
		tb: tb, bin: bin,
		args: append([]string{"serve", "--host=127.0.0.1", fmt.Sprintf("--port=%d", data), fmt.Sprintf("--mgmt-port=%d", mgmt)}, args...),
	}
	tb.Cleanup(func() {
		a.Kill()
		if tb.Failed() {
			log := a.Log()
			tb.Logf("log of the service, its end:\n%s", log[max(0, len(log)-6000):])
		}
	})
	return a
}

// Start starts a process and does not wait for it.
func (a *App) Start() {
	a.tb.Helper()
	a.cmd = exec.CommandContext(context.WithoutCancel(a.tb.Context()), a.bin, a.args...)
	a.cmd.Env = append(os.Environ(), a.Env...)
	a.cmd.Stdout, a.cmd.Stderr = writer{a}, writer{a}
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: a.Credential, Pdeathsig: syscall.SIGKILL}
	if err := a.cmd.Start(); err != nil {
		a.tb.Fatal(err)
	}
}

type writer struct{ *App }

func (w writer) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(b)
}

// Log is everything all its processes have printed.
func (a *App) Log() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.log.String()
}

// Kill ends the process with SIGKILL, if it runs.
func (a *App) Kill() {
	if a.cmd != nil {
		_ = a.cmd.Process.Kill()
		_ = a.cmd.Wait()
		a.cmd = nil
	}
}

// Signal sends a signal.
func (a *App) Signal(sig syscall.Signal) { _ = a.cmd.Process.Signal(sig) } // it may have ended

// Exit waits for the process to end by itself and returns its exit code.
func (a *App) Exit() int {
	a.tb.Helper()
	var ended atomic.Bool
	cmd := a.cmd
	go func() {
		_ = cmd.Wait() // the exit code says it all
		ended.Store(true)
	}()
	a.Await("the service to end", ended.Load)
	a.cmd = nil
	return cmd.ProcessState.ExitCode()
}

// Ready waits until the readiness probe answers 200.
func (a *App) Ready() {
	a.tb.Helper()
	a.Await("ready", func() bool { code, _ := a.Get("/readyz"); return code == http.StatusOK })
}

// Get asks the management port. The code is 0 when nobody answers.
func (a *App) Get(path string) (code int, body string) { return a.Do(http.MethodGet, path) }

// Do asks the management port.
func (a *App) Do(method, path string) (code int, body string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+a.Mgmt+path, nil)
	if err != nil {
		a.tb.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text)
}

// Metric is the sum over all series of a metric whose labels contain all given texts, such as `status="ok"`.
func (a *App) Metric(name string, labels ...string) (sum float64) {
	a.tb.Helper()
	_, body := a.Get("/metrics")
	for line := range strings.Lines(body) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || (rest[0] != '{' && rest[0] != ' ') {
			continue
		}
		match := true
		for _, l := range labels {
			match = match && strings.Contains(rest, l)
		}
		if i := strings.LastIndexByte(rest, ' '); match && i >= 0 {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest[i:]), 64)
			if err != nil {
				a.tb.Fatalf("metric %s: %v", line, err)
			}
			sum += v
		}
	}
	return sum
}

// Await waits for a condition until the time of go test is nearly over: how fast the machine is must decide nothing.
func (a *App) Await(what string, ok func() bool) {
	a.tb.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limited, end := false, time.Time{}
	if t, is := a.tb.(*testing.T); is {
		end, limited = t.Deadline()
	}
	for ; !ok(); <-tick.C {
		if limited && time.Until(end) < timeToTell {
			a.tb.Fatalf("gave up waiting for: %s", what)
		}
	}
}

func freePort(tb testing.TB) int {
	ports, err := freeport.Find(1)
	if err != nil {
		tb.Fatal(err)
	}
	return ports[0]
}
