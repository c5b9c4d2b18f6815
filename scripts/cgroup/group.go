package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// Group holds processes to so much memory from their first page on, as a container does: the pages of their program are counted too,
// unless somebody outside has read them before (Forget).
type Group struct {
	dir   string
	first bool // of version 1
}

// Used is what a group's processes have used, in bytes.
type Used struct {
	Peak       int
	Current    int
	WorkingSet int // without the pages of files that nobody has asked for lately: what kubelet compares
	Anonymous  int
	File       int // the pages of the program, and of what it reads
	Kills      int // by the kernel, for want of memory
}

// NewGroup makes one. The caller calls Remove when its processes have ended.
func NewGroup(limit int, name string) (*Group, error) {
	g := &Group{dir: root}
	file := "memory.max"
	if one := filepath.Join(root, "memory"); exists(filepath.Join(one, "cgroup.procs")) {
		g, file = &Group{dir: one, first: true}, "memory.limit_in_bytes"
	}
	g.dir = filepath.Join(g.dir, fmt.Sprintf("drain-agent-%d-%s", os.Getpid(), name))
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make a cgroup (it needs root and a writable %s): %w", root, err)
	}
	if err := os.WriteFile(filepath.Join(g.dir, file), []byte(strconv.Itoa(limit)), 0o644); err != nil {
		return nil, errors.Join(fmt.Errorf("limit the memory of a cgroup: %w", err), g.Remove())
	}
	return g, nil
}

// Start has a command, which is not started yet, begin in the group.
func (g *Group) Start(cmd *exec.Cmd) {
	shell := exec.Command("sh", append([]string{"-c", `echo $$ >"$0" && exec "$@"`, filepath.Join(g.dir, "cgroup.procs"), cmd.Path}, cmd.Args[1:]...)...) //nolint:gosec,noctx // the caller's command, and context
	cmd.Path, cmd.Args = shell.Path, shell.Args
}

// Remove takes away a group whose processes have ended.
func (g *Group) Remove() error {
	if err := os.Remove(g.dir); err != nil {
		return fmt.Errorf("remove a cgroup: %w", err)
	}
	return nil
}

// Used reads what the kernel has counted.
func (g *Group) Used() (u Used, err error) {
	peak, current, events, anonymous, file := "memory.peak", "memory.current", "memory.events", "anon", "file"
	if g.first {
		peak, current, events, anonymous, file = "memory.max_usage_in_bytes", "memory.usage_in_bytes", "memory.oom_control", "rss", "cache"
	}
	of := map[string]map[string]int{}
	for _, name := range []string{peak, current, events, "memory.stat"} {
		if of[name], err = g.numbers(name); err != nil {
			return u, err
		}
	}
	u = Used{Peak: of[peak][""], Current: of[current][""], Anonymous: of["memory.stat"][anonymous], File: of["memory.stat"][file], Kills: of[events]["oom_kill"]}
	u.WorkingSet = u.Current - of["memory.stat"]["inactive_file"]
	return u, nil
}

// numbers reads a file of lines NAME NUMBER, or of one number, whose name is empty.
func (g *Group) numbers(name string) (map[string]int, error) {
	text, err := os.ReadFile(filepath.Join(g.dir, name))
	if err != nil {
		return nil, fmt.Errorf("read a cgroup: %w", err)
	}
	all := map[string]int{}
	for line := range strings.Lines(string(text)) {
		fields := append([]string{""}, strings.Fields(line)...)
		if n, err := strconv.Atoi(fields[len(fields)-1]); err == nil {
			all[fields[len(fields)-2]] = n
		}
	}
	return all, nil
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}
