package ledger

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/drain-agent/drain-agent/agent/timeline"
)

// Size of a chart in SVG units.
const chartWidth, chartHeight = 840.0, 180.0

type drainPage struct {
	*drainRow
	WorkloadLink, RevisionText, NodeText, Grace, NoChart string
	Chart                                                *chart
	Keys                                                 []keyValue
}

type keyValue struct{ Name, Text string }

// chart is a curve ready for drawing.
type chart struct {
	Label, Line, Area string
	Peak              int64
	Grace             string // where the grace period ends; "": beyond
	Ticks             []mark
	Bars              []bar
}

type mark struct{ X, Text string }

type bar struct{ Name, X, Width, Text string }

func (l *Ledger) drainPage(w http.ResponseWriter, r *http.Request) {
	id, store := r.URL.Query().Get("id"), l.opened()
	if store == nil {
		show(w, http.StatusServiceUnavailable, "list", &listPage{Title: "Pod stops", Problems: []string{errNoStore.Error()}})
		return
	}
	page, err := store.Drains(r.Context(), Query{ID: id, Limit: 1})
	if err == nil && len(page.Items) == 0 || id == "" {
		show(w, http.StatusNotFound, "list", &listPage{Title: "No such stop", Problems: []string{"No stop has this id, or its row was removed by age or number."}})
		return
	}
	var row *drainRow
	if err == nil {
		row, err = newDrainRow(page.Items[0])
	}
	if err != nil {
		l.wrong(r.Context(), "show a stop", err)
		show(w, http.StatusServiceUnavailable, "list", &listPage{Title: "Pod stops", Problems: []string{errNoStore.Error()}})
		return
	}
	show(w, http.StatusOK, "drain", newDrainPage(row))
}

func newDrainPage(row *drainRow) *drainPage {
	p := &drainPage{
		drainRow: row, RevisionText: cmp.Or(row.Revision, "unknown"), NodeText: cmp.Or(row.Node, "none"), Grace: "unknown",
		WorkloadLink: "./?" + url.Values{"namespace": {row.Namespace}, "kind": {row.Workload.Kind}, "workload": {row.Workload.Name}}.Encode(),
		NoChart:      "No curve was recorded: a pod's status has no room for one. Agents with --report hand it over.",
	}
	if row.GraceS != nil {
		p.Grace = fmt.Sprintf("%d s", *row.GraceS)
	}
	if row.Outcome == unknown {
		p.NoChart = "The pod left no verdict: nobody knows what was in flight."
	}
	var v struct {
		Curve  [][2]int64       `json:"in_flight_curve"`
		Phases map[string]int64 `json:"phases"`
	}
	_ = json.Unmarshal(row.Verdict, &v) // as much as it has
	if len(v.Curve) > 0 {
		p.Chart = newChart(v.Curve, v.Phases, row)
	}
	p.Keys = keysOf(row.Verdict)
	return p
}

// keysOf shows a verdict's keys in their order, but the curves.
func keysOf(raw json.RawMessage) (out []keyValue) {
	keys, values, _ := members(string(raw))
	for _, key := range keys {
		if key == "in_flight_curve" || key == "arrivals_curve" || key == "msg" {
			continue
		}
		text := string(values[key])
		var plain string
		var short bytes.Buffer
		if json.Unmarshal(values[key], &plain) == nil && text != "null" {
			text = plain
		} else if json.Compact(&short, values[key]) == nil {
			text = strings.ReplaceAll(short.String(), ",", ", ")
		}
		if text == "null" {
			text = "unknown"
		}
		out = append(out, keyValue{key, text})
	}
	return out
}

func newChart(curve [][2]int64, phases map[string]int64, row *drainRow) *chart {
	c := &chart{}
	curve = timeline.Thin(curve, timeline.MaxCurve)
	end := int64(1000)
	for _, point := range curve {
		c.Peak, end = max(c.Peak, point[1]), max(end, min(point[0], most))
	}
	if row.TotalMS != nil {
		end = max(end, *row.TotalMS)
	}
	x := func(ms int64) string { return decimal(chartWidth * float64(min(max(ms, 0), end)) / float64(end)) }
	y := func(n int64) string { return decimal(chartHeight * (1 - float64(max(n, 0))/float64(max(c.Peak, 1)))) }
	var line strings.Builder
	for i, point := range curve { // steps: nothing is known between two samples but that it changed
		if i > 0 {
			fmt.Fprintf(&line, "%s,%s ", x(point[0]), y(curve[i-1][1]))
		}
		fmt.Fprintf(&line, "%s,%s ", x(point[0]), y(point[1]))
	}
	c.Line = strings.TrimSpace(line.String())
	first, last := curve[0], curve[len(curve)-1]
	c.Area = fmt.Sprintf("%s,%s %s %s,%s", x(first[0]), y(0), c.Line, x(last[0]), y(0))
	for at, step := int64(0), tick(end); at <= end; at += step {
		c.Ticks = append(c.Ticks, mark{x(at), strconv.FormatFloat(float64(at)/1000, 'f', -1, 64) + " s"})
	}
	if row.GraceS != nil && *row.GraceS*1000 <= end {
		c.Grace = x(*row.GraceS * 1000)
	}
	c.bars(phases)
	c.Label = fmt.Sprintf("Requests in flight of %s: %d at the start, %d at most, %d at the last reading, after %.1f s", row.Name, first[1], c.Peak, last[1], float64(last[0])/1000)
	return c
}

// bars draws how long each phase lasted, visits added up.
func (c *chart) bars(phases map[string]int64) {
	names, all := []string{"confirming", "holding", "maintenance", "announcing", "draining", "settling", "stopping", "finished"}, int64(0)
	for _, name := range names {
		all += max(phases[name], 0)
	}
	at := 0.0
	for _, name := range names {
		if ms := phases[name]; ms > 0 {
			width := chartWidth * float64(ms) / float64(all)
			c.Bars = append(c.Bars, bar{name, decimal(at), decimal(max(width, 1)), seconds(&ms)})
			at += width
		}
	}
}

// tick is the least of 1, 2, 5, 10, 20, 50 … that divides the axis at most ten times.
func tick(whole int64) int64 {
	for step := int64(100); ; step *= 10 {
		for _, n := range []int64{1, 2, 5} {
			if whole/(n*step) <= 10 {
				return n * step
			}
		}
	}
}

func decimal(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) }
