package server

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/probes"
)

const (
	idleFlood   = 10_000   // connections that ask nothing
	busyFlood   = 3_000    // connections that do; a dozen times what is admitted
	memoryLimit = 32 << 20 // bytes of resident memory at its peak
	floodEnv    = "DRAIN_AGENT_TEST_FLOODED"
)

// TestMain is another process when the environment says so.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv(floodEnv) != "":
		if err := beFlooded(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case os.Getenv(peerEnv) != "":
		bePeer(os.Getenv(peerEnv))
	default:
		os.Exit(m.Run())
	}
}

// beFlooded serves until its stdin ends, then answers the hooks.
func beFlooded() error {
	registry, err := probes.New(probes.Config{})
	if err != nil {
		return err
	}
	f := newFakeAgent()
	s, err := New(f.agent(), Options{Listen: "127.0.0.1:0", Probes: registry, Metrics: testMetrics().Handler()})
	if err != nil {
		return err
	}
	if err := s.Start(); err != nil {
		return err
	}
	fmt.Println(s.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
	close(f.release)
	select {} // the parent ends it, after it has seen the answers
}

// flooded is a server in a process of its own, so that its memory is its own.
type flooded struct {
	cmd   *exec.Cmd
	stdin io.Closer
	addr  string
}

// buildFlooded builds this test without the race detector, whose shadow memory would be measured instead.
func buildFlooded(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "server.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-race=false", "-o", binary, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}

func startFlooded(t *testing.T, binary string) *flooded {
	t.Helper()
	cmd := exec.Command(binary)
	cmd.Env = append(os.Environ(), floodEnv+"=1")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	addr, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return &flooded{cmd: cmd, stdin: stdin, addr: strings.TrimSpace(addr)}
}

// peak returns the most resident memory the process had so far, in bytes.
func (f *flooded) peak(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", f.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "VmHWM:" {
			kib, err := strconv.Atoi(fields[1])
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("no VmHWM in /proc/PID/status")
	return 0
}

// flood opens connections from the given address and sends the same text on each. They stay open until the test ends,
// unless the server closes them.
func (f *flooded) flood(t *testing.T, n int, from, text string) {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 30 * time.Second}
	for i := range n {
		conn, err := dialer.DialContext(t.Context(), "tcp", f.addr)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		t.Cleanup(func() { conn.Close() })
		_, _ = io.WriteString(conn, text) // the server may have pushed it out already
	}
}

func (f *flooded) call(path string) error {
	res, err := freshClient().Get("http://" + f.addr + path)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s, %w", path, res.Status, err)
	}
	return nil
}

func TestAFloodNeitherStopsADrainNorEatsMemory(t *testing.T) {
	const hook = "GET /prestop/app HTTP/1.1\r\nHost: x\r\n"
	binary := buildFlooded(t)
	for _, flood := range []struct {
		name, from, text string
		size             int
	}{
		{"idle connections, from kubelet's own address", "127.0.0.1", "", idleFlood},
		{"headers that never end, from kubelet's own address", "127.0.0.1", hook + "X: ", idleFlood},
		{"kept-alive connections", "127.0.0.1", "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", busyFlood},
		{"HTTP/2 connections", "127.0.0.1", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", busyFlood},
		{"HTTP/2 frames that claim the most", "127.0.0.2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x01", busyFlood},
		{"hooks that are held, from another pod", "127.0.0.2", hook + "\r\n", busyFlood},
		{"hooks with the largest headers, from another pod", "127.0.0.2", hook + "X: " + strings.Repeat("x", maxHeaderBytes-100) + "\r\n\r\n", busyFlood},
		{"hooks whose body never comes, from another pod", "127.0.0.2", hook + "Content-Length: 9\r\n\r\n", busyFlood},
	} {
		t.Run(flood.name, func(t *testing.T) {
			f := startFlooded(t, binary)
			idle := f.peak(t)
			before, during := make(chan error), make(chan error)
			go func() { before <- f.call("/prestop/app") }()
			f.flood(t, flood.size, flood.from, flood.text)
			if err := f.call("/livez"); err != nil {
				t.Errorf("liveness in the flood: %v", err)
			}
			go func() { during <- f.call("/prestop/proxy") }()
			if err := f.call("/status"); err != nil {
				t.Error(err)
			}
			select {
			case err := <-before:
				t.Errorf("kubelet's hook was let go by the flood: %v", err)
			case err := <-during:
				t.Errorf("kubelet's second hook was let go by the flood: %v", err)
			default:
			}
			f.stdin.Close()
			for _, answer := range []chan error{before, during} {
				select {
				case err := <-answer:
					if err != nil {
						t.Error(err)
					}
				case <-time.After(30 * time.Second):
					t.Fatal("the drain is over and kubelet's hook is not answered")
				}
			}
			peak := f.peak(t)
			t.Logf("resident memory %.1f MiB before, %.1f MiB at the peak", float64(idle)/(1<<20), float64(peak)/(1<<20))
			if peak > memoryLimit {
				t.Errorf("peak of %d bytes, want at most %d", peak, memoryLimit)
			}
		})
	}
}
