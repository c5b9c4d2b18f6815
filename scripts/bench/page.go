package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/drain-agent/drain-agent/scripts/machine"
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

func writePage(f flags, figures []figure, before string) error {
	command := strings.Join(append([]string{"go run ./scripts/bench"}, f.Only...), " --only ")
	title := "What a drain costs"
	if slices.Equal(f.Only, []string{"admission"}) {
		title = "What drain-controller costs"
	}
	where := fmt.Sprintf("%s; load average %s before and %s after", machine.Name(), before, machine.Load())
	return os.WriteFile(f.Page, []byte(page(figures, title, command, time.Now().UTC().Format(time.DateOnly), where)), 0o644)
}
