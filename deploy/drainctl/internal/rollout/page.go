package rollout

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/drain-agent/drain-agent/agent/timeline"
)

//go:embed page.html
var pageText string

// Size of a chart in SVG units.
const (
	chartWidth  = 800.0
	chartHeight = 120.0
)

// chart is one drain, ready for drawing: every x is on the common time axis of the page.
type chart struct {
	Row
	Bars   []bar // phases
	Blind  []bar // when a source could not be read
	Line   string
	Area   string
	Peak   int64
	Hooks  []bar
	Facts  []fact
	Unread bool // nobody could read anything in flight
}

// Axis is where the times stand: below the last hook.
func (c chart) Axis() int { return 160 + 12*len(c.Hooks) }

type bar struct {
	Name     string
	X, Width float64
	MS       int64
}

// Y is where the n-th hook's bar stands.
func (bar) Y(n int) int { return 148 + 12*n }

type fact struct {
	X    float64
	Text string
}

// page is what the template gets.
type page struct {
	Summary
	Charts []chart
	Ticks  []fact
	Phases []string
}

// Page writes one HTML page that needs nothing else: no script, no font, no network.
func Page(w io.Writer, drains []*Drain) error {
	whole := int64(1000)
	for _, d := range drains {
		whole = max(whole, total(d))
	}
	whole = min(whole, 1e9)
	p := page{Summary: Summarise(drains), Phases: []string{"confirming", "holding", "announcing", "draining", "settling", "stopping"}}
	for at, step := int64(0), tick(whole); at <= whole; at += step {
		p.Ticks = append(p.Ticks, fact{x(at, whole), strconv.FormatFloat(float64(at)/1000, 'f', -1, 64) + " s"})
	}
	for _, d := range drains {
		p.Charts = append(p.Charts, newChart(d, whole))
	}
	t, err := template.New("page").Funcs(template.FuncMap{"counts": Counts[int], "seconds": Seconds}).Parse(pageText)
	if err != nil {
		return fmt.Errorf("read the page's template: %w", err)
	}
	return t.Execute(w, p)
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

func total(d *Drain) int64 {
	ms := int64(0)
	if d.Verdict != nil {
		ms = d.Verdict.TotalMS
	}
	if n := len(d.Events); n > 0 {
		ms = max(ms, d.Events[n-1].ElapsedMS)
	}
	return ms
}

func x(ms, whole int64) float64 { return chartWidth * float64(min(max(ms, 0), whole)) / float64(whole) }

func newChart(d *Drain, whole int64) chart {
	c := chart{Row: NewRow(d)}
	end := total(d)
	span := func(name string, from, to int64) bar {
		return bar{name, x(from, whole), max(x(to, whole)-x(from, whole), 1), to - from}
	}
	phase, since := "", int64(0)
	for _, e := range d.Events {
		if e.From == e.To || e.To == "" {
			continue
		}
		if phase != "" {
			c.Bars = append(c.Bars, span(phase, since, e.ElapsedMS))
		}
		phase, since = e.To, e.ElapsedMS
	}
	if phase != "" && phase != "finished" {
		c.Bars = append(c.Bars, span(phase, since, end))
	}
	held := map[string]int64{}
	for _, e := range d.Events {
		if name, ok := strings.CutPrefix(e.Action, timeline.Hold("")); ok {
			if _, is := held[name]; !is {
				held[name] = e.ElapsedMS
			}
		} else if name, ok := strings.CutPrefix(e.Action, timeline.Answer("")); ok {
			c.Hooks = append(c.Hooks, span(name, held[name], e.ElapsedMS))
			delete(held, name)
		} else if e.Action != "" {
			c.Facts = append(c.Facts, fact{x(e.ElapsedMS, whole), fmt.Sprintf("+%s %s %s", Seconds(e.ElapsedMS), e.Action, e.Result)})
		}
	}
	c.curve(d, whole, end)
	return c
}

// curve draws the number in flight as steps, and shades the times at which a source that could be read once could not.
func (c *chart) curve(d *Drain, whole, end int64) {
	var points [][2]int64
	if d.Verdict != nil {
		points = d.Verdict.InFlightCurve
	}
	proxy := slices.ContainsFunc(d.Events, func(e timeline.Event) bool { return e.ProxyInFlight != nil })
	app := slices.ContainsFunc(d.Events, func(e timeline.Event) bool { return e.AppInFlight != nil })
	for i, e := range d.Events {
		unread := proxy && e.ProxyInFlight == nil || app && e.AppInFlight == nil
		switch {
		case e.To == "finished":
		case unread:
			to := end
			if i+1 < len(d.Events) {
				to = d.Events[i+1].ElapsedMS
			}
			for _, point := range points { // read again before the next event
				if point[0] > e.ElapsedMS && point[0] < to {
					to = point[0]
				}
			}
			c.Blind = append(c.Blind, bar{"", x(e.ElapsedMS, whole), x(to, whole) - x(e.ElapsedMS, whole), to - e.ElapsedMS})
		case d.Verdict == nil && (proxy || app):
			points = append(points, [2]int64{e.ElapsedMS, max(value(e.ProxyInFlight), value(e.AppInFlight))})
		}
	}
	if len(points) == 0 {
		c.Unread = true
		return
	}
	for _, point := range points {
		c.Peak = max(c.Peak, point[1])
	}
	y := func(n int64) float64 { return chartHeight - 4 - (chartHeight-12)*float64(n)/float64(max(c.Peak, 1)) }
	var line strings.Builder
	last := points[0]
	for i, point := range points {
		if i > 0 {
			fmt.Fprintf(&line, "%.1f,%.1f ", x(point[0], whole), y(last[1]))
		}
		fmt.Fprintf(&line, "%.1f,%.1f ", x(point[0], whole), y(point[1]))
		last = point
	}
	c.Line = strings.TrimSpace(line.String())
	c.Area = fmt.Sprintf("%.1f,%.1f %s %.1f,%.1f", x(points[0][0], whole), chartHeight-4, c.Line, x(last[0], whole), chartHeight-4)
}

func value(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}
