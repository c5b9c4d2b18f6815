//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// ownNode skips what needs the node's processes and files, which somebody else's cluster does not show.
func ownNode(t *testing.T) {
	t.Helper()
	if os.Getenv("CLUSTER") == "external" {
		t.Skip("CLUSTER=external: this row reaches into the node")
	}
}

// restartKubelet returns when the new one is well.
func restartKubelet(t *testing.T) {
	t.Helper()
	if out, err := exec.CommandContext(context.WithoutCancel(t.Context()), clusterScript, "restart", "kubelet").CombinedOutput(); err != nil {
		t.Fatalf("restart kubelet: %v: %s", err, out)
	}
	eventually(t, time.Minute, "the new kubelet is well", func() bool {
		response, err := http.Get("http://127.0.0.1:10248/healthz")
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
}

// signal sends a signal to the main process of a container, seen from the node.
func signal(t *testing.T, pod corev1.Pod, container string, sig syscall.Signal) {
	t.Helper()
	pid := mainProcess(t, status(pod, container).ContainerID)
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatalf("send %v to %s (pid %d): %v", sig, container, pid, err)
	}
}

// starve lowers the memory limit of a running container to what it cannot do without, and then lets it need more.
func starve(t *testing.T, pod corev1.Pod, container string) {
	t.Helper()
	pid := mainProcess(t, status(pod, container).ContainerID)
	limit := memoryLimit(t, pid)
	for bytes := 2 << 20; os.WriteFile(limit, []byte(strconv.Itoa(bytes)), 0o644) != nil; bytes += 256 << 10 {
		if bytes > 64<<20 {
			t.Fatalf("%s takes no limit", limit)
		}
	}
	for syscall.Kill(pid, 0) == nil { // a connection costs the agent some kilobytes
		conn, err := net.Dial("tcp", net.JoinHostPort(pod.Status.PodIP, "9909"))
		if err != nil {
			break
		}
		defer conn.Close()
		_, _ = conn.Write([]byte("GET /status HTTP/1.1\r\nHost: a\r\n"))
	}
}

// memoryLimit is the file that holds the memory limit of a process's container, in cgroup v2 or v1.
func memoryLimit(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	unified := ""
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case slices.Contains(strings.Split(parts[1], ","), "memory"):
			return filepath.Join("/sys/fs/cgroup/memory", parts[2], "memory.limit_in_bytes")
		case parts[1] == "":
			unified = filepath.Join("/sys/fs/cgroup", parts[2], "memory.max")
		}
	}
	return unified
}

// mainProcess finds the process of a container by its cgroup; of several it is the one that started first.
func mainProcess(t *testing.T, containerID string) int {
	t.Helper()
	_, id, _ := strings.Cut(containerID, "://")
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil || id == "" {
		t.Fatalf("find the process of container %q: %v", containerID, err)
	}
	first := 0
	for _, file := range files {
		text, _ := os.ReadFile(file)
		pid, _ := strconv.Atoi(strings.Split(file, "/")[2])
		if bytes.Contains(text, []byte(id)) && (first == 0 || pid < first) {
			first = pid
		}
	}
	if first == 0 {
		t.Fatalf("no process belongs to container %q", containerID)
	}
	return first
}

// stateDir is the throw-away cluster's, as scripts/cluster/cluster chooses it.
func stateDir() string {
	if dir := os.Getenv("CLUSTER_DIR"); dir != "" {
		return dir
	}
	base := os.Getenv("XDG_STATE_HOME")
	if base == "" {
		base = filepath.Join(os.Getenv("HOME"), ".local", "state")
	}
	return filepath.Join(base, "drain-agent", "cluster")
}

// volume is where the node keeps an emptyDir of a pod.
func volume(pod corev1.Pod, name string) string {
	return filepath.Join(stateDir(), "kubelet", "pods", string(pod.UID), "volumes", "kubernetes.io~empty-dir", name)
}

// post sends a POST to a port of a pod through the API server.
func post(t *testing.T, pod corev1.Pod, port int, path string) {
	t.Helper()
	kubectl(t, "create", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/pods/%s:%d/proxy%s", pod.Namespace, pod.Name, port, path), "-f", "/dev/null")
}
