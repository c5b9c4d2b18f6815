package advice

import (
	"fmt"
	"html"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Text is the range for people, its numbers divided by unit.
func (r Range) Text(unit float64, digits int) string {
	text := func(n int64) string { return strconv.FormatFloat(float64(n)/unit, 'f', digits, 64) }
	if r.High == nil {
		return text(r.Low) + " or more"
	}
	if *r.High == r.Low {
		return text(r.Low)
	}
	return text(r.Low) + " to " + text(*r.High)
}

// panel is one figure of all settings: a row for each, on one axis.
type panel struct {
	title string
	unit  float64
	of    func(*WhatIf) Range
}

func panels() []panel {
	return []panel{
		{"seconds of the next stop", 1000, func(w *WhatIf) Range { return w.Took }},
		{"requests that it loses", 1, func(w *WhatIf) Range { return w.Lost }},
	}
}

// most is the end of the axis: a round number at or above all that is known.
func (p *panel) most(all []WhatIf) float64 {
	high := 1.0
	for i := range all {
		r := p.of(&all[i])
		high = max(high, float64(r.Low)/p.unit)
		if r.High != nil {
			high = max(high, float64(*r.High)/p.unit)
		}
	}
	step := math.Pow(10, math.Floor(math.Log10(high)))
	return math.Ceil(high/step) * step
}

// places are where a range begins, has its middle (-1: unknown) and ends on an axis of that length; open: it has no end that is known.
func (p *panel) places(r Range, most, length float64) (low, middle, high float64, open bool) {
	at := func(n int64) float64 { return length * float64(n) / p.unit / most }
	low, middle, high = at(r.Low), -1, length
	if r.P50 != nil {
		middle = at(*r.P50)
	}
	if r.High != nil {
		high = at(*r.High)
	}
	return low, middle, high, r.High == nil
}

const plotColumns = 50

// Plot draws the advice of one workload for a terminal.
func Plot(out io.Writer, a Advice) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d stops, %d of them cut short; %d can be replayed\n", a.Workload, a.Stops, a.Cut, a.Replays.Ready)
	for _, g := range a.Grace {
		if g.Seconds != nil {
			fmt.Fprintf(&b, "%s%% of stops fit into %d s (%.0f %% sure)\n", strconv.FormatFloat(100*g.Share, 'g', 6, 64), *g.Seconds, 100*g.Confidence)
		} else {
			fmt.Fprintf(&b, "%s%% of stops need more than %d s\n", strconv.FormatFloat(100*g.Share, 'g', 6, 64), g.AtLeast)
		}
	}
	if len(a.WhatIf) == 0 {
		_, err := io.WriteString(out, b.String())
		return err
	}
	wide := 0
	for _, w := range a.WhatIf {
		wide = max(wide, utf8.RuneCountInString(w.Settings))
	}
	for _, p := range panels() {
		wide = max(wide, len(p.title))
	}
	for _, p := range panels() {
		most := p.most(a.WhatIf)
		fmt.Fprintf(&b, "\n%-*s  0%*s\n", wide, p.title, plotColumns-1, strconv.FormatFloat(most, 'g', 4, 64))
		for i := range a.WhatIf {
			w := &a.WhatIf[i]
			r := p.of(w)
			low, middle, high, open := p.places(r, most, plotColumns-1)
			line := slices.Repeat([]rune{' '}, plotColumns)
			for x := int(low); x <= int(high); x++ {
				line[x] = '─'
			}
			if line[int(low)] = '├'; middle >= 0 {
				line[int(middle)] = '●'
			}
			if open {
				line[plotColumns-1] = '→'
			} else if int(high) > int(middle) {
				line[int(high)] = '┤'
			}
			fmt.Fprintf(&b, "%-*s  %s  %s\n", wide, w.Settings, string(line), r.Text(p.unit, map[float64]int{1000: 1}[p.unit]))
		}
	}
	fmt.Fprintf(&b, "\nThe next stop lies there with a confidence of %.0f %%, of %d stops; ● is the middle; → nobody knows how far.\n", 100*a.WhatIf[0].Confidence, a.WhatIf[0].Stops)
	_, err := io.WriteString(out, b.String())
	return err
}

// Measures of the SVG.
const (
	svgLabel, svgPlot, svgValue, svgRow = 170, 260, 110, 24
	svgHead                             = 84
)

// SVG draws all workloads as one picture, which needs nothing from elsewhere.
func SVG(out io.Writer, all []Advice) error {
	height := 0
	for i := range all {
		height += svgHead + 30 + svgRow*len(all[i].WhatIf)
	}
	const width = svgLabel + 2*(svgPlot+svgValue) + 20
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="system-ui, sans-serif" font-size="12" fill="#1f2933"><rect width="%d" height="%d" fill="#ffffff"/>`+"\n", width, height, width, height, width, height)
	top := 0
	for i := range all {
		drawAdvice(&b, &all[i], top)
		top += svgHead + 30 + svgRow*len(all[i].WhatIf)
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(out, b.String())
	return err
}

func drawAdvice(b *strings.Builder, a *Advice, top int) {
	said := fmt.Sprintf("%d stops, %d cut short, %d replayed", a.Stops, a.Cut, a.Replays.Ready)
	if len(a.WhatIf) > 0 {
		said += fmt.Sprintf(". The next one lies between the ends with a confidence of %.0f %%; dashes: nobody knows how far.", 100*a.WhatIf[0].Confidence)
	}
	fmt.Fprintf(b, `<text x="10" y="%d" font-size="14" font-weight="600">%s</text><text x="10" y="%d" fill="#52606d">%s</text>`+"\n", top+22, html.EscapeString(a.Workload), top+40, said)
	for k, p := range panels() {
		left, most := svgLabel+k*(svgPlot+svgValue), p.most(a.WhatIf)
		fmt.Fprintf(b, `<text x="%d" y="%d" font-weight="600">%s</text><text x="%d" y="%d" fill="#52606d">0</text><text x="%d" y="%d" text-anchor="end" fill="#52606d">%g</text>`+"\n",
			left, top+64, p.title, left, top+80, left+svgPlot, top+80, most)
		for i := range a.WhatIf {
			w := &a.WhatIf[i]
			y := top + svgHead + 14 + i*svgRow
			if k == 0 {
				fmt.Fprintf(b, `<text x="10" y="%d">%s</text>`+"\n", y+4, html.EscapeString(w.Settings))
			}
			r := p.of(w)
			low, middle, high, open := p.places(r, most, svgPlot)
			dashes := ""
			if open {
				dashes = ` stroke-dasharray="5 4"`
			}
			fmt.Fprintf(b, `<line x1="%d" x2="%d" y1="%d" y2="%d" stroke="#d9dee3"/><line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#1d6fa5" stroke-width="5" stroke-linecap="round"%s/>`,
				left, left+svgPlot, y, y, float64(left)+low, float64(left)+high, y, y, dashes)
			if middle >= 0 {
				fmt.Fprintf(b, `<circle cx="%.1f" cy="%d" r="5" fill="#b3472b"/>`, float64(left)+middle, y)
			}
			fmt.Fprintf(b, `<text x="%d" y="%d">%s</text>`+"\n", left+svgPlot+8, y+4, r.Text(p.unit, map[float64]int{1000: 1}[p.unit]))
		}
	}
}
