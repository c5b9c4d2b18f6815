package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/advice"
)

func (a *adviser) write(out io.Writer, all []advice.Advice) error {
	if a.output == "json" {
		text := json.NewEncoder(out)
		text.SetIndent("", "  ")
		return text.Encode(map[string]any{"method": "curve", "confidence": advice.Confidence, "workloads": all})
	}
	if a.output == "svg" {
		return advice.SVG(out, all)
	}
	for i, one := range all {
		if i > 0 {
			fmt.Fprintln(out)
		}
		write := writeAdvice
		if a.output == "plot" {
			write = advice.Plot
		}
		if err := write(out, one); err != nil {
			return err
		}
	}
	return nil
}

func writeAdvice(out io.Writer, a advice.Advice) error {
	fmt.Fprintf(out, "%s: %d stops", a.Workload, a.Stops)
	if a.Cut > 0 {
		fmt.Fprintf(out, ", %d of them cut short: they needed longer than they had", a.Cut)
	}
	if a.Capped > 0 {
		fmt.Fprintf(out, ", %d of those by --stop or --drain-max, which no grace period lengthens", a.Capped)
	}
	if a.Unknown > 0 {
		fmt.Fprintf(out, "; %d more left no verdict, or one whose time cannot be, and are in no figure", a.Unknown)
	}
	fmt.Fprintln(out)
	if a.Stops == 0 {
		return nil
	}
	fmt.Fprintf(out, "seconds per stop: p50 %s, p95 %s, p99 %s, longest %.1f\n", second(a.Took.P50), second(a.Took.P95), second(a.Took.P99), float64(a.Took.Max)/1000)
	if len(a.Now) > 0 {
		fmt.Fprintf(out, "grace period of these stops: %s s\n", strings.Trim(strings.ReplaceAll(fmt.Sprint(a.Now), " ", ", "), "[]"))
	}
	t := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "\nshare of stops\tterminationGracePeriodSeconds\thow sure")
	for _, g := range a.Grace {
		seconds, sure := fmt.Sprintf("more than %d", g.AtLeast), "too many were cut short: raise it, and ask again"
		if g.Seconds != nil {
			seconds, sure = strconv.FormatInt(*g.Seconds, 10), fmt.Sprintf("%.0f %%", 100*g.Confidence)
			if !g.Sure {
				seconds, sure = seconds+" (the longest seen)", fmt.Sprintf("%.0f %%: it takes %d stops without one cut short to be 95 %% sure", 100*g.Confidence, g.Needs)
			}
		}
		fmt.Fprintf(t, "%s %%\t%s\t%s\n", strconv.FormatFloat(100*g.Share, 'g', 6, 64), seconds, sure)
	}
	fmt.Fprintln(t, "\ninstead of the agent\tstops with requests in flight when it is over\trequests, at least\tseconds of the next stop\trequests that it loses\thow sure")
	for _, s := range a.Sleep {
		hit := "no stop has a curve"
		if s.Stops > 0 {
			hit = fmt.Sprintf("%d of %d, %.0f to %.0f %%", s.Hit, s.Stops, 100*s.Low, 100*s.High)
		}
		if s.Unread > 0 && s.Stops > 0 {
			hit += fmt.Sprintf(" (%d have no curve)", s.Unread)
		}
		next := "unknown\tunknown\t"
		if s.Took != nil {
			next = fmt.Sprintf("%s\t%s\t%.0f %%", s.Took.Text(1000, 1), s.Lost.Text(1, 0), 100*s.Confidence)
		}
		fmt.Fprintf(t, "sleep %d\t%s\t%d\t%s\n", s.Seconds, hit, s.Requests, next)
	}
	writeWhatIf(t, a)
	return t.Flush()
}

// writeWhatIf says between which bounds the next stop lies under other settings, and how many stops say so.
func writeWhatIf(t io.Writer, a advice.Advice) {
	r := a.Replays
	if a.WhatIf == nil { // nobody asked
		return
	}
	said := fmt.Sprintf("%d of %d stops replayed", r.Ready, a.Stops)
	if r.Unread > 0 {
		said += fmt.Sprintf("; %d lack what a replay needs", r.Unread)
	}
	if r.Unlike > 0 {
		said += fmt.Sprintf("; %d do not come out as they were recorded", r.Unlike)
	}
	if r.Unlike > r.Ready {
		said += " (--recorded says with which settings)"
	}
	if r.Older > 0 {
		said += fmt.Sprintf("; %d are older than the newest %d", r.Older, advice.Newest)
	}
	if r.Censored > 0 {
		said += fmt.Sprintf("; %d of them ended by the deadline: how long they would have taken is known only as at least", r.Censored)
	}
	fmt.Fprintf(t, "\nother settings: %s\n", said)
	if len(a.WhatIf) == 0 {
		return
	}
	fmt.Fprintln(t, "settings\tseconds of the next stop\trequests that it loses\tlost in 100 stops\thow sure\tnot over")
	for _, w := range a.WhatIf {
		hundred := "nobody can say"
		if w.Per100 != nil {
			hundred = fmt.Sprintf("%d to %d", w.Per100[0], w.Per100[1])
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%.0f %%\t%d\n", w.Settings, w.Took.Text(1000, 1), w.Lost.Text(1, 0), hundred, 100*w.Confidence, w.Open)
	}
}

func second(ms *int64) string {
	if ms == nil {
		return "unknown (cut short)"
	}
	return fmt.Sprintf("%.1f", float64(*ms)/1000)
}
