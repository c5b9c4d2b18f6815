package main

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// page returns the figures as a page that says when, where and how they were measured.
func page(figures []figure, title, command, when, where string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<!-- Written by %s: measure again, do not edit. -->
# %s

Measured on %s with `+"`%s`"+`, on %s. A busy machine prints worse figures, and the spread says so; no figure fails anything. The goal is drain-agent's.

`, command, title, when, command, where)
	for i, line := range cells(figures) {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(line, " | "))
		if i == 0 {
			b.WriteString(strings.Repeat("| --- ", len(line)) + "|\n")
		}
	}
	return b.String()
}

var model = regexp.MustCompile(`(?m)^model name\s*: (.*)$`)

// machine says what this one is and how busy it was; before is its load when the measurement began.
func machine(before string) string {
	name := runtime.GOARCH
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if found := model.FindSubmatch(text); found != nil {
			name = string(found[1])
		}
	}
	return fmt.Sprintf("%d cores (%s), %s; load average %s before and %s after", runtime.NumCPU(), name, runtime.GOOS, before, load())
}

// load is the number of processes that want a processor, on average of the last minute.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	average, _, _ := strings.Cut(string(text), " ")
	return average
}

func writePage(f flags, figures []figure, before string) error {
	command := strings.Join(append([]string{"go run ./scripts/bench"}, f.Only...), " --only ")
	title := "What a drain costs"
	if slices.Equal(f.Only, []string{"admission"}) {
		title = "What drain-controller costs"
	}
	return os.WriteFile(f.Page, []byte(page(figures, title, command, time.Now().UTC().Format(time.DateOnly), machine(before))), 0o644)
}
