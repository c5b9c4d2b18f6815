package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

func (j *judgement) write(out io.Writer) {
	t := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	for _, line := range j.table() {
		fmt.Fprintln(t, strings.Join(line, "\t"))
	}
	t.Flush()
	fmt.Fprintln(out)
	for _, setting := range settings() {
		fmt.Fprintln(out, j.total(setting))
	}
	fmt.Fprintln(out, "all settings"+j.total("").String())
	for _, p := range j.graces {
		fmt.Fprintln(out, p)
	}
	for _, c := range j.again {
		fmt.Fprintf(out, "of %d recordings that the deadline cut, under a longer one: %s; %v\n", j.cut.Replays.Censored, c.said.Took.of(1000, 1), c)
	}
	for _, c := range append(slices.Clone(j.cells), j.again...) {
		for _, s := range c.outside {
			fmt.Fprintf(out, "outside: %s %d, %s: %d ms (%v), %d lost (%v) %s, clients late by %d ms\n", s.Kind, s.Seed, s.Setting, s.TookMS, c.said.Took, s.Lost, c.said.Lost, s.How, s.LateMS)
		}
	}
}

func (p promised) String() string {
	if p.grace.Seconds == nil {
		return fmt.Sprintf("%s, %g %%: no grace period is named", p.who, 100*p.grace.Share)
	}
	return fmt.Sprintf("%s, %g %%: %d s (sure: %v, %.0f %%) holds %d of %d held-out stops", p.who, 100*p.grace.Share, *p.grace.Seconds, p.grace.Sure, 100*p.grace.Confidence, p.held, p.n)
}

// table has a line for each cell, the head first.
func (j *judgement) table() [][]string {
	lines := [][]string{{"work", "setting", "predicted, s", "measured, s: least, median, most", "inside", "predicted, lost", "measured, lost", "inside"}}
	for _, c := range j.cells {
		lines = append(lines, []string{
			c.kind, c.setting, c.said.Took.of(1000, 1), spread(c.measured[0], 1000, 1), fmt.Sprintf("%d of %d", c.took, c.n),
			c.said.Lost.of(1, 0), spread(c.measured[1], 1, 0), fmt.Sprintf("%d of %d", c.lost, c.n),
		})
	}
	return lines
}

// spread is the least, the median and the most of what is sorted.
func spread(all []int64, unit float64, places int) string {
	if len(all) == 0 {
		return "none"
	}
	one := func(n int64) string { return fmt.Sprintf("%.*f", places, float64(n)/unit) }
	return one(all[0]) + ", " + one(all[(len(all)-1)/2]) + ", " + one(all[len(all)-1])
}

const pageHead = `<!-- Written by %s: measure again, do not edit. -->
# Does it hold, what advise says?

[drainctl advise](../how-to/ledger.md#how-long-should-the-grace-period-be) reads recorded stops and says between which bounds the next stop
lies, under other settings and with a sleep instead of the agent. Here stops of pods were recorded, with real Envoy, the agent's own binary and
kubelet's order of hooks and signals (scripts/podsim); advise was asked; and other pods were really stopped under those settings. Every
stop has work of its own that a seed draws: which clients, how often they come, how long their requests take, how late the balancer learns of the
stop. No seed is used twice, and the order of all stops is random. A held-out stop is *inside* when its time, from the deletion until
the agent answers its own hook (of a pod that sleeps: until it is gone), or the number of requests that its clients lost, lies between the bounds that advise printed.

Advise read %d stops of each of %d kinds of work, recorded under the defaults with a grace period of %v. Its bounds are meant to hold 95 of 100 stops.

`

const pageKinds = `
The last column is the check of the check: the same stops against what advise said of the setting that was recorded.

Kind by kind; of the measured times the least, the median and the most; *?* is no bound: more than one replay in forty is longer than its recording, and advise says so.

`

const pageLimits = `
What the bounds are not: they hold, and most of them are wide. What is lost at the most counts every request that comes until the last container has ended, and those
of a sleep take the load at T0 for what never goes away; clients lose far less. Of *proxy,app* they hold for pods whose proxy is a
native sidecar and for others, for a verdict does not tell: a native one, as here, always takes the proxy's share longer than the lower bound. A
shorter propagation makes the agent wait for connections that a longer one would not have counted: longer than the recording, often.
`

const pageGrace = `
## The grace period

A grace period holds a stop that it does not end. A stop that an agent's own limit ended (a request that comes at the last moment and takes longer than the app's share) is held too: no
longer one would have helped it, and advise says how many those are.

| where | share | stops that were read | advise names | held-out stops that had it | of them held |
|---|---|---|---|---|---|
`

const pageCut = `
## Stops that the deadline cut

%d stops of long requests were recorded with a grace period of %v, and the deadline cut %d of them, %d before zero was to hold for the settle time. How long those would have taken nobody
knows, and advise does not pretend to: under %v it says of %d that they are not over and names no upper bound (%s s); %d of %d held-out stops that had as much are above its
lower one. This is what it prints of them:

`

const pageFoot = `
Measured on %s by

%s

on %s, %s after; the clients were late by %d ms at the median, by %d ms at worst. Every stop, with the verdicts that advise read, is in [advice.jsonl.gz](../images/advice.jsonl.gz);
%s asks today's advise about them again, as make test does.
`

const again = "`go run ./scripts/advice --judge docs/images/advice.jsonl.gz`"

func writePage(f flags, e *experiment, j judgement) error {
	var b strings.Builder
	fmt.Fprintf(&b, pageHead, "make advice", len(of(e.Stops, kinds[0], recorded)), len(kinds), recordedGrace)
	b.WriteString("| setting | held-out stops | times inside | losses inside | both | both, of the recorded setting |\n|---|---|---|---|---|---|\n")
	for _, setting := range append(settings(), "") {
		c := j.total(setting)
		if setting == "" {
			setting = "all"
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d |\n", setting, c.n, c.took, c.lost, c.both, c.control)
	}
	b.WriteString(pageKinds)
	for i, line := range j.table() {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(line, " | "))
		if i == 0 {
			b.WriteString(strings.Repeat("|---", len(line)) + "|\n")
		}
	}
	b.WriteString(pageLimits + pageGrace)
	for _, p := range j.graces {
		fmt.Fprintln(&b, p.row(len(of(e.Stops, "", recorded))))
	}
	if f.Virtual != "" {
		rows, err := os.ReadFile(f.Virtual)
		if err != nil {
			return fmt.Errorf("read what virtual time came to: %w", err)
		}
		for line := range strings.Lines(string(rows)) {
			fmt.Fprintf(&b, "| virtual time | %s |\n", strings.ReplaceAll(strings.TrimSpace(line), "\t", " | "))
		}
	}
	j.writeCut(&b, len(of(e.Stops, "", cut)))
	middle, worst := late(e.Stops)
	fmt.Fprintf(&b, pageFoot, e.When, "    make advice", e.Machine, e.Load, middle, worst, again)
	return os.WriteFile(f.Page, []byte(b.String()), 0o644)
}

func (p promised) row(read int) string {
	share := fmt.Sprintf("| real pods | %g %% | %d ", 100*p.grace.Share, read)
	switch {
	case p.grace.Seconds == nil:
		return share + "| nothing | | |"
	case !p.grace.Sure:
		return share + fmt.Sprintf("| %d s, and that it is %.0f %% sure | not tried | |", *p.grace.Seconds, 100*p.grace.Confidence)
	}
	return share + fmt.Sprintf("| %d s | %d | %d |", *p.grace.Seconds, p.n, p.held)
}

func (j *judgement) writeCut(b *strings.Builder, read int) {
	if j.cut == nil {
		return
	}
	_, had := args(shortGrace)
	c := j.again[0]
	fmt.Fprintf(b, pageCut, read, had, j.cut.Replays.Censored, j.endless, recordedGrace, c.said.Open, c.said.Took.of(1000, 1), c.took, c.n)
	for line := range strings.Lines(j.said) {
		b.WriteString(strings.TrimRight("    "+line, " \n") + "\n")
	}
}

// late is by how much the clients were, at the median and at worst.
func late(stops []stop) (middle, worst int64) {
	var all []int64
	for _, s := range stops {
		all = append(all, s.LateMS)
	}
	if len(all) == 0 {
		return 0, 0
	}
	slices.Sort(all)
	return all[(len(all)-1)/2], all[len(all)-1]
}
