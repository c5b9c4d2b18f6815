package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// summary is what came of a fault in all its cells.
type summary struct {
	fault    string
	outcomes map[string]int
	answered int
	called   int
	lost     int
	sent     int
	slowest  float64
	cells    int
	wrong    int
}

func summarize(rows []row) (all []*summary) {
	for _, r := range rows {
		fault := strings.Split(r.cell, "/")[1]
		i := slices.IndexFunc(all, func(s *summary) bool { return s.fault == fault })
		if i < 0 {
			i, all = len(all), append(all, &summary{fault: fault, outcomes: map[string]int{}})
		}
		s := all[i]
		s.outcomes[r.outcome]++
		s.answered, s.called = s.answered+r.answered, s.called+r.called
		s.lost, s.sent = s.lost+r.lost, s.sent+r.sent
		s.slowest = max(s.slowest, r.seconds)
		s.cells++
		if len(r.wrong) > 0 {
			s.wrong++
		}
	}
	return all
}

func (s *summary) verdicts() string {
	var all []string
	for outcome, n := range s.outcomes {
		all = append(all, fmt.Sprintf("%s %d", outcome, n))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

const pageHead = `# What can go wrong while a pod stops

Each row is one fault, played with nothing in flight, with one request of 6 s and under load (30 requests/s of four kinds of client until
half a second after the deletion), in pods where the agent is a native sidecar and in classic ones: real Envoy, the agent's own binary,
kubelet's order of hooks and signals (scripts/podsim). *Lost* counts requests that clients did not get; a fault that kills who holds
them, or that leaves less time than they take, loses them, and the verdict must say so. *Hooks* are those that kubelet called: answered before the deadline, of all.
*none* is a stop whose agent was killed, by the fault or by kubelet, before it could say anything. Faults of pages last 4 s ("for good": to the end).
A client that *vanished* is one more, whose connection is half open: nothing reaches it and nothing comes from it, as if a firewall dropped
all, and Envoy does not learn it. What it left idle holds nobody for long, and bytes that it does not take hold a stop for 5 s and stand in the
verdict's ` + "`cut`" + `. A request that it left in the middle, or an answer larger than all buffers, is in flight for good: it holds the stop until
its time is over, 20 s here, and the verdict names it.

`

const pageFoot = `
Not here: what a node does under pressure beyond a short grace period.

Played by

` + "```\n%s\n```" + `

on %s, %s/%s, %d processors, up to %d pods at a time%s; %d of %d cells were as they must be. All of them: [faults.tsv](../images/faults.tsv).
A cell is played again with ` + "`go run ./scripts/faults --cell \"native/admin garbage/long\"`" + `; ` + "`--list`" + ` names all.
`

// writePage writes the page of the results.
func writePage(path string, rows []row, f flags) error {
	var b strings.Builder
	b.WriteString(pageHead)
	b.WriteString("| Fault | Cells | Verdicts | Hooks | Lost | Slowest stop, s |\n|---|---|---|---|---|---|\n")
	wrong := 0
	for _, s := range summarize(rows) {
		fmt.Fprintf(&b, "| %s | %d | %s | %d of %d | %d of %d | %.1f |\n", s.fault, s.cells, s.verdicts(), s.answered, s.called, s.lost, s.sent, s.slowest)
		wrong += s.wrong
	}
	command, parts := "make faults", ""
	if f.Rest {
		command, parts = "go run ./scripts/faults --rest --tsv docs/images/faults.tsv --page docs/explanation/faults.md", ", in parts, a cell that was not as it must be once more"
	}
	fmt.Fprintf(&b, pageFoot, command, time.Now().UTC().Format(time.DateOnly), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), f.Parallel, parts, len(rows)-wrong, len(rows))
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}
