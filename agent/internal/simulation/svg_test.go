package simulation

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

// A plot is two panels with the same x axis: how long the first hook was held, and how many requests a stop lost. The line is the mean,
// the band goes from the least to the most.
const (
	panelWidth, panelHeight = 330, 190
	left, top, gap          = 56, 62, 76
)

type point struct{ x, low, mean, high float64 }

func writePlot(t *testing.T, p plot, rows []sample) {
	t.Helper()
	var b strings.Builder
	width, height := left+2*panelWidth+gap+24, top+panelHeight+56
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="system-ui, sans-serif" font-size="12" fill="#1f2933">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/><text x="%d" y="24" font-size="15" font-weight="600">%s</text>`+"\n", width, height, left, p.title)
	panel(&b, left, "seconds until the app's hook is answered", p.axis, "#1d6fa5", points(rows, func(s sample) float64 { return s.held.Seconds() }))
	panel(&b, left+panelWidth+gap, "requests lost in a stop", p.axis, "#b3472b", points(rows, func(s sample) float64 { return float64(s.lost) }))
	b.WriteString("</svg>\n")
	writeFile(t, "simulation-"+p.name+".svg", b.String())
}

// points are the least, the mean and the most at each x.
func points(rows []sample, of func(sample) float64) []point {
	by := map[float64][]float64{}
	for _, r := range rows {
		by[r.x] = append(by[r.x], of(r))
	}
	var out []point
	for x, all := range by {
		total := 0.0
		for _, v := range all {
			total += v
		}
		out = append(out, point{x, slices.Min(all), total / float64(len(all)), slices.Max(all)})
	}
	slices.SortFunc(out, func(a, b point) int { return int(math.Copysign(1, a.x-b.x)) })
	return out
}

func panel(b *strings.Builder, at int, title, axis, color string, all []point) {
	high := 1.0
	for _, p := range all {
		high = max(high, p.high)
	}
	step := niceStep(high)
	high = math.Ceil(high/step) * step
	logs := all[len(all)-1].x/all[0].x > 20 && all[0].x > 0
	x := func(v float64) float64 {
		low, most := all[0].x, all[len(all)-1].x
		if logs {
			v, low, most = math.Log(v), math.Log(low), math.Log(most)
		}
		return float64(at) + panelWidth*(v-low)/(most-low)
	}
	y := func(v float64) float64 { return top + panelHeight*(1-v/high) }
	fmt.Fprintf(b, `<text x="%d" y="%d" font-weight="600">%s</text>`+"\n", at, top-14, title)
	for v := 0.0; v <= high+step/2; v += step {
		fmt.Fprintf(b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#d9dee3"/><text x="%d" y="%.1f" text-anchor="end">%g</text>`+"\n", at, at+panelWidth, y(v), y(v), at-8, y(v)+4, math.Round(v*1e6)/1e6)
	}
	last := math.Inf(-1)
	for _, p := range all {
		if x(p.x)-last >= 26 {
			fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle">%g</text>`+"\n", x(p.x), top+panelHeight+18, p.x)
			last = x(p.x)
		}
	}
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="middle" fill="#52606d">%s</text>`+"\n", at+panelWidth/2, top+panelHeight+38, axis)
	var band, line []string
	for _, p := range all {
		band = append(band, fmt.Sprintf("%.1f,%.1f", x(p.x), y(p.high)))
		line = append(line, fmt.Sprintf("%.1f,%.1f", x(p.x), y(p.mean)))
	}
	for _, p := range slices.Backward(all) {
		band = append(band, fmt.Sprintf("%.1f,%.1f", x(p.x), y(p.low)))
	}
	fmt.Fprintf(b, `<polygon points="%s" fill="%s" opacity="0.18"/><polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(band, " "), color, strings.Join(line, " "), color)
	for _, p := range all {
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x(p.x), y(p.mean), color)
	}
}

// niceStep divides an axis into about five round parts.
func niceStep(high float64) float64 {
	base := math.Pow(10, math.Floor(math.Log10(high/5)))
	for _, by := range []float64{1, 2, 5} {
		if high/(by*base) <= 6 {
			return by * base
		}
	}
	return 10 * base
}
