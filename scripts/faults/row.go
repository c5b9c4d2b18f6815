package main

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/drain-agent/drain-agent/agent/timeline"
	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
	"github.com/drain-agent/drain-agent/scripts/promises/fromlog"
)

// row is what came of a cell.
type row struct {
	cell    string
	outcome string

	called, answered int // hooks of the stop; those answered before the deadline

	sent    int
	lost    int
	how     string // they were lost
	seconds float64
	wrong   []string // what is not as it must be
	log     string   // of the pod, where something is wrong
}

func (r *row) say(format string, args ...any) {
	r.wrong = append(r.wrong, fmt.Sprintf(format, args...))
}

func (r row) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s, hooks %d of %d, %d of %d requests lost, %.1f s", r.cell, r.outcome, r.answered, r.called, r.lost, r.sent, r.seconds)
	for _, w := range r.wrong {
		b.WriteString("\n      WRONG: " + w)
	}
	if r.log != "" {
		b.WriteString("\n" + strings.TrimSuffix(r.log, "\n"))
	}
	return b.String()
}

// check compares what happened with what must.
func (c cell) check(p *played, r *row) {
	c.checkVerdict(p, r)
	c.checkHooks(p, r)
	if r.lost > 0 && !c.fault.loses {
		r.say("%d of %d requests were lost: %s", r.lost, r.sent, r.how)
	}
	if c.fault.wrap == "closed" {
		return // there is no log
	}
	pod, err := fromlog.Pod(p.args)
	if err != nil {
		r.say("%v", err)
		return
	}
	for _, broken := range fromlog.Broken(pod, string(p.Log("agent"))) {
		r.say("a promise is broken: %s", broken)
	}
}

func (c cell) checkVerdict(p *played, r *row) {
	_, verdict := timelineOf(p)
	want := c.fault.outcome
	if want == nil {
		want = []string{"clean"}
	}
	switch {
	case verdict == nil && c.fault.silent:
		r.outcome = "none"
	case verdict == nil:
		r.outcome = "none"
		r.say("there is no verdict")
	default:
		r.outcome = verdict.Outcome
		if !slices.Contains(want, verdict.Outcome) {
			r.say("the verdict is %s, want %s: %s", verdict.Outcome, strings.Join(want, " or "), verdict.Reason)
		}
		for _, what := range c.fault.names {
			if verdict.Cut[what] <= 0 {
				r.say("the verdict names %v as cut, not %s", verdict.Cut, what)
			}
		}
		if r.lost > 0 && verdict.Outcome == "clean" {
			r.say("the verdict is clean and %d requests were lost", r.lost)
		}
	}
}

// checkHooks holds each hook of the stop to the deadline.
func (c cell) checkHooks(p *played, r *row) {
	var deleted time.Time
	for _, e := range p.Events() {
		switch {
		case e.Kind == pod.T0:
			deleted = e.Time
		case deleted.IsZero():
		case e.Kind == pod.HookCalled:
			r.called++
		case e.Kind == pod.HookAnswered && e.Time.Sub(deleted) < p.grace:
			r.answered++
		case (e.Kind == pod.HookFailed || e.Kind == pod.HookAbandoned) && !c.fault.cut:
			r.say("hook of %s: %s %s", e.Container, e.Kind, e.Detail)
		}
	}
	if r.answered < r.called && !c.fault.cut && len(r.wrong) == 0 {
		r.say("%d of %d hooks were answered before the deadline", r.answered, r.called)
	}
}

// timelineOf is the agent's log or, where it has none, the verdict of its termination message.
func timelineOf(p *played) (events []event, verdict *timeline.Verdict) {
	texts := []string{string(p.Log("agent")), p.TerminationMessage("agent")}
	for _, text := range texts {
		for line, err := range timeline.Decode(strings.NewReader(text)) {
			switch {
			case err != nil:
			case line.Event != nil:
				events = append(events, *line.Event)
			case line.Verdict != nil:
				verdict = line.Verdict
			}
		}
	}
	return events, verdict
}

func write(w io.Writer, rows []row) {
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "cell\toutcome\thooks in time\tlost\tsent\tseconds\tas it must be")
	for _, r := range rows {
		verdict := "yes"
		if len(r.wrong) > 0 {
			verdict = "NO: " + strings.Join(r.wrong, "; ")
		}
		fmt.Fprintf(table, "%s\t%s\t%d of %d\t%d\t%d\t%.1f\t%s\n", r.cell, r.outcome, r.answered, r.called, r.lost, r.sent, r.seconds, verdict)
	}
	table.Flush()
}

func writeTSV(path string, rows []row) error {
	var b bytes.Buffer
	table := csv.NewWriter(&b)
	table.Comma = '\t'
	_ = table.Write([]string{"cell", "outcome", "hooks_in_time", "lost", "sent", "seconds", "wrong"}) // to memory
	for _, r := range rows {
		wrong := strings.Join(strings.Fields(strings.Join(r.wrong, "; ")), " ")
		_ = table.Write([]string{r.cell, r.outcome, fmt.Sprintf("%d of %d", r.answered, r.called), strconv.Itoa(r.lost), strconv.Itoa(r.sent), fmt.Sprintf("%.1f", r.seconds), wrong})
	}
	table.Flush()
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	return nil
}

// readTSV reads what writeTSV wrote; a table that is not there has no rows.
func readTSV(path string) (rows []row, err error) {
	text, err := os.ReadFile(path)
	switch {
	case os.IsNotExist(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read the table of earlier cells: %w", err)
	}
	table := csv.NewReader(bytes.NewReader(text))
	table.Comma, table.FieldsPerRecord = '\t', 7
	records, err := table.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("read the table of earlier cells: %s: want seven columns as --tsv writes them: %w", path, err)
	}
	for i, f := range records {
		if i == 0 {
			continue // names
		}
		r := row{cell: f[0], outcome: f[1]}
		if _, err := fmt.Sscanf(strings.Join(f[2:6], " "), "%d of %d %d %d %f", &r.answered, &r.called, &r.lost, &r.sent, &r.seconds); err != nil {
			return nil, fmt.Errorf("read the table of earlier cells: %s: line %d is %q, want figures as --tsv writes them", path, i+1, f)
		}
		if f[6] != "" {
			r.wrong = []string{f[6]}
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// merge puts new rows in the place of earlier ones of the same cells, all in the order of the cells; cells that are no more are left out.
func merge(earlier, rows []row) (all []row) {
	for _, c := range cells() {
		of := func(r row) bool { return r.cell == c.name() }
		from := rows
		if !slices.ContainsFunc(rows, of) {
			from = earlier
		}
		for _, r := range from {
			if of(r) {
				all = append(all, r)
			}
		}
	}
	return all
}
