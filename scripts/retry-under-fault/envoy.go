package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/drain-agent/drain-agent/scripts/envoy/envoybin"
)

// proxy is a running Envoy.
type proxy struct {
	admin string
	ports map[string]string // host:port by listener name
	cmd   *exec.Cmd
	ctx   context.Context //nolint:containedctx // the process lives as long
}

// startProxy starts an Envoy and waits until it is ready. It ends with ctx.
func startProxy(ctx context.Context, dir, name string, listeners []*listenerv3.Listener, clusters []*clusterv3.Cluster) (*proxy, error) {
	binary, err := envoybin.Path(ctx, "")
	if err != nil {
		return nil, err
	}
	config, err := bootstrap(listeners, clusters)
	if err != nil {
		return nil, err
	}
	file, adminFile := filepath.Join(dir, name+".json"), filepath.Join(dir, name+".admin")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return nil, err
	}
	logFile, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer logFile.Close()
	p := &proxy{ctx: ctx, cmd: exec.CommandContext(ctx, binary, "-c", file, "--admin-address-path", adminFile, "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning")}
	p.cmd.Stdout, p.cmd.Stderr = logFile, logFile
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start envoy: %w", err)
	}
	err = until(ctx, 30*time.Second, func() error {
		address, err := os.ReadFile(adminFile)
		if err != nil || len(address) == 0 {
			return fmt.Errorf("no admin address yet: %v", err)
		}
		p.admin = "http://" + string(address)
		_, err = p.get("/ready")
		return err
	})
	if err != nil {
		text, _ := os.ReadFile(logFile.Name())
		return nil, fmt.Errorf("wait for envoy %s: %w\n%s", name, err, text)
	}
	return p, p.findPorts()
}

func (p *proxy) get(path string) (string, error) {
	req, err := http.NewRequestWithContext(p.ctx, http.MethodGet, p.admin+path, http.NoBody)
	if err != nil {
		return "", err
	}
	reply, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	if err == nil && reply.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s", path, reply.Status)
	}
	return string(body), err
}

func (p *proxy) findPorts() error {
	text, err := p.get("/listeners")
	if err != nil {
		return err
	}
	p.ports = map[string]string{}
	for line := range strings.Lines(text) {
		name, address, _ := strings.Cut(strings.TrimSpace(line), "::")
		p.ports[name] = address
	}
	return nil
}

// sum adds up the statistics whose names match the pattern.
func (p *proxy) sum(pattern string) (int64, error) {
	text, err := p.get("/stats?format=json&filter=" + pattern)
	if err != nil {
		return 0, err
	}
	var reply struct {
		Stats []struct {
			Value json.Number `json:"value"`
		} `json:"stats"`
	}
	if err := json.Unmarshal([]byte(text), &reply); err != nil {
		return 0, fmt.Errorf("read statistics: %w", err)
	}
	var total int64
	for _, stat := range reply.Stats {
		n, _ := stat.Value.Int64() // histograms have none
		total += n
	}
	return total, nil
}

// until tries again until it succeeds, or returns the last error.
func until(ctx context.Context, limit time.Duration, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}
