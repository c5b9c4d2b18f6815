package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/drain-agent/drain-agent/agent/timeline"
)

func titles() map[string]string {
	return map[string]string{"nothing": "with nothing", "sleep": "with sleep 5", "agent": "with drain-agent"}
}

// report shows what the clients saw in each part, and the drain that took longest.
func report(w io.Writer, results []result, took time.Duration) {
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "\trequests\tfailed\tseconds per stop\tkinds of failure")
	for _, r := range results {
		fmt.Fprintf(table, "%s\t%d\t%d\t%s\t%s\n", titles()[r.Part], r.Load.Requests, r.Load.Failed, r.seconds(), r.Load.Kinds())
	}
	table.Flush()
	fmt.Fprintf(w, "\nwork asked for: 90 %% 20 ms, 9 %% 2 s, 1 %% 8 s; no client sends a request twice; %.0f s in all\n", took.Seconds())
	for _, r := range results {
		r.draw(w)
	}
}

func (r result) seconds() string {
	var all []string
	for _, s := range r.Stops {
		all = append(all, fmt.Sprintf("%.1f", s.Seconds))
	}
	return strings.Join(all, ", ")
}

// draw shows the longest drain of the part, if there was one, and says which were not clean.
func (r result) draw(w io.Writer) {
	var longest *stop
	for i, s := range r.Stops {
		if s.Verdict == nil {
			continue
		}
		if longest == nil || s.Seconds > longest.Seconds {
			longest = &r.Stops[i]
		}
		if s.Verdict.Outcome != "clean" {
			fmt.Fprintf(w, "\npod %d stopped with %s: %s\n", i+1, s.Verdict.Outcome, s.Verdict.Reason)
		}
	}
	if longest == nil {
		return
	}
	fmt.Fprintf(w, "\nwhy the longest stop %s took %.1f s:\n\n", titles()[r.Part], longest.Seconds)
	_ = timeline.Draw(w, longest.events, longest.Verdict, 100)
}
