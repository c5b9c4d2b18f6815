package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// limitCPU allows a process so many per cent of one processor.
func limitCPU(t *testing.T, pid, percent int) {
	t.Helper()
	if dir, ok := group(t, "cpu", "cpu.cfs_quota_us"); ok {
		write(t, dir, "cpu.cfs_period_us", "100000")
		write(t, dir, "cpu.cfs_quota_us", strconv.Itoa(percent*1000))
		enter(t, dir, pid)
		return
	}
	dir, _ := group(t, "", "cpu.max")
	write(t, dir, "cpu.max", fmt.Sprintf("%d 100000", percent*1000))
	enter(t, dir, pid)
}

// limitMemory lets the kernel kill the process above so many bytes.
func limitMemory(t *testing.T, pid, limit int) {
	t.Helper()
	if dir, ok := group(t, "memory", "memory.limit_in_bytes"); ok {
		write(t, dir, "memory.limit_in_bytes", strconv.Itoa(limit))
		enter(t, dir, pid)
		return
	}
	dir, _ := group(t, "", "memory.max")
	write(t, dir, "memory.max", strconv.Itoa(limit))
	enter(t, dir, pid)
}

// group makes a cgroup of a version 1 controller, or of version 2 where controller is empty.
func group(t *testing.T, controller, knob string) (dir string, ok bool) {
	t.Helper()
	dir = filepath.Join("/sys/fs/cgroup", controller, fmt.Sprintf("drain-agent-e2e-%d-%s", os.Getpid(), filepath.Base(t.Name())))
	if err := os.Mkdir(dir, 0o755); err != nil {
		if controller == "" {
			t.Fatalf("make a cgroup: %v; this test needs root and a writable /sys/fs/cgroup", err)
		}
		return "", false
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Errorf("remove cgroup: %v", err)
		}
	})
	if _, err := os.Stat(filepath.Join(dir, knob)); err != nil {
		if controller == "" {
			t.Fatalf("cgroup has no %s: %v", knob, err)
		}
		return "", false
	}
	return dir, true
}

func write(t *testing.T, dir, file, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func enter(t *testing.T, dir string, pid int) {
	t.Helper()
	write(t, dir, "cgroup.procs", strconv.Itoa(pid))
}
