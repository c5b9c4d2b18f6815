// Package cgroup limits a process of a test as kubelet limits a container's: to a share of a processor, or to so much memory.
// It needs root and a writable /sys/fs/cgroup, of version 1 or 2.
package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// Limit puts a process into a group of its own, which the name tells from those of other tests. The caller calls undo once the process
// has ended.
type Limit func(pid int, name string) (undo func() error, err error)

const root = "/sys/fs/cgroup"

// CPU allows so many per cent of one processor.
func CPU(percent int) Limit {
	quota := strconv.Itoa(percent * 1000)
	return func(pid int, name string) (func() error, error) {
		return enter(pid, name, "cpu", []knob{{"cpu.cfs_period_us", "100000"}, {"cpu.cfs_quota_us", quota}}, knob{"cpu.max", quota + " 100000"})
	}
}

// Memory lets the kernel kill the process above so many bytes.
func Memory(limit int) Limit {
	bytes := strconv.Itoa(limit)
	return func(pid int, name string) (func() error, error) {
		return enter(pid, name, "memory", []knob{{"memory.limit_in_bytes", bytes}}, knob{"memory.max", bytes})
	}
}

type knob struct{ file, text string }

func enter(pid int, name, controller string, first []knob, second knob) (func() error, error) {
	knobs, parent := first, filepath.Join(root, controller)
	if _, err := os.Stat(filepath.Join(parent, "cgroup.procs")); err != nil { // no controller of version 1
		knobs, parent = []knob{second}, root
	}
	dir := filepath.Join(parent, fmt.Sprintf("drain-agent-%d-%s", os.Getpid(), name))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make a cgroup (it needs root and a writable %s): %w", root, err)
	}
	for _, k := range append(knobs, knob{"cgroup.procs", strconv.Itoa(pid)}) {
		if err := os.WriteFile(filepath.Join(dir, k.file), []byte(k.text), 0o644); err != nil {
			_ = os.Remove(dir)
			return nil, fmt.Errorf("limit process %d: %w", pid, err)
		}
	}
	return func() error {
		if err := os.Remove(dir); err != nil {
			return fmt.Errorf("remove the cgroup of process %d: %w", pid, err)
		}
		return nil
	}, nil
}
