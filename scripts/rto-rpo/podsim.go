package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

type simulated struct {
	dir      string
	manifest *corev1.Pod

	mu   sync.Mutex
	pods []*pod.Pod
}

// onPodsim builds the service and runs the deployment's pods as local processes.
func onPodsim(ctx context.Context) (place, error) {
	manifest, _, err := pod.Load("scripts/rto-rpo/manifests/deployment.yaml")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "rto-rpo-")
	if err != nil {
		return nil, err
	}
	s := &simulated{dir: dir, manifest: manifest}
	build := exec.CommandContext(ctx, "go", "build", "-o", s.program(), "./app")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		s.close()
		return nil, fmt.Errorf("build the service: %w: %s", err, out)
	}
	return s, os.Mkdir(s.data(), 0o750)
}

func (s *simulated) program() string { return filepath.Join(s.dir, "app") }
func (s *simulated) data() string    { return filepath.Join(s.dir, "data") }

func (s *simulated) close() {
	for _, p := range s.running() {
		p.Close()
	}
	_ = os.RemoveAll(s.dir)
}

func (s *simulated) running() []*pod.Pod {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pods
}

func (s *simulated) scale(ctx context.Context, n int) error {
	pods := s.running()
	surplus := pods[min(n, len(pods)):]
	for _, p := range surplus {
		p.Delete(nil)
	}
	for _, p := range surplus {
		if err := p.Wait(ctx); err != nil {
			return err
		}
	}
	pods = slices.Clone(pods[:len(pods)-len(surplus)])
	for len(pods) < n {
		m := s.manifest.DeepCopy()
		m.Name = fmt.Sprintf("payment-service-%d", len(pods))
		p, err := pod.Start(ctx, m, pod.Options{
			Images: map[string]string{"ghcr.io/drain-agent/drain-agent-app:v0.1.0-dev": s.program()}, Volumes: map[string]string{"data": s.data()},
		})
		if err != nil {
			return err
		}
		pods = append(pods, p)
	}
	s.mu.Lock()
	s.pods = pods
	s.mu.Unlock()
	for _, p := range pods {
		if err := p.WaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

var client = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func (s *simulated) call(ctx context.Context, path, body string) ([]byte, error) {
	pods := s.running()
	if len(pods) == 0 {
		return nil, errors.New("no replica")
	}
	method := http.MethodGet
	if body != "" {
		method = http.MethodPost
	}
	url := "http://" + net.JoinHostPort(pods[0].IP().String(), strconv.Itoa(pods[0].Port(8080))) + path
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, answer)
	}
	return answer, err
}
