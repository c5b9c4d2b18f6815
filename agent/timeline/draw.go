package timeline

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Style says which characters a drawing may use. The zero value is Unicode without colour.
type Style struct {
	ASCII bool // plain ASCII only
	Color bool // ANSI colours; whoever sets it has asked NO_COLOR and whether w is a terminal
}

// Draw draws one drain in the zero [Style].
func Draw(w io.Writer, events []Event, v *Verdict, width int) error {
	return Style{}.Draw(w, events, v, width)
}

// Columns of a drawing: names, the plot, times.
const (
	minWidth   = 60
	maxWidth   = 1000
	labelWidth = 12
	timeWidth  = 9
	maxFacts   = 24
)

// Draw draws one drain for people, at most width columns wide (80 when width is 0, never below 60): a bar per phase,
// the requests in flight and the hooks on one time axis, what was done, and the verdict. Of several drains in events
// it draws the last. Without events it draws what v alone tells, as a termination message does; without v it draws a
// drain that still runs. The error is that of writing to w.
func (s Style) Draw(w io.Writer, events []Event, v *Verdict, width int) error {
	c := canvas{
		style: s, glyphs: s.glyphs(), picture: newPicture(events, v),
		width: min(max(cmp.Or(width, 80), minWidth), maxWidth),
	}
	c.plot = c.width - labelWidth - timeWidth - 2
	c.title(events, v)
	c.axis()
	c.phaseRows()
	c.curveRows()
	c.hookRows()
	c.factRows()
	c.verdict(lastDrain(events), v)
	_, err := io.WriteString(w, c.out.String())
	return err
}

// canvas collects the lines of a drawing.
type canvas struct {
	style  Style
	glyphs glyphs
	picture
	width, plot int
	out         strings.Builder
}

// glyphs are the characters of a drawing.
type glyphs struct {
	bar, sliver, line, tick, zero rune
	left, right, open, would      rune
	levels                        []rune // ever fuller parts of a cell
	dots, separator               string
}

func (s Style) glyphs() glyphs {
	if s.ASCII {
		return glyphs{
			bar: '#', sliver: '|', line: '-', tick: '+', zero: '.',
			left: '[', right: ']', open: '>', would: 'o', levels: []rune(".:|#"),
			dots: "...", separator: ", ",
		}
	}
	return glyphs{
		bar: '█', sliver: '▏', line: '─', tick: '┴', zero: '·',
		left: '├', right: '┤', open: '▷', would: '○', levels: []rune("▁▂▃▄▅▆▇█"),
		dots: "…", separator: " · ",
	}
}

// ANSI colours.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
	bold   = "1"
	dim    = "2"
)

func (c *canvas) paint(code, text string) string {
	if !c.style.Color || code == "" || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// row writes one line of the common time axis.
func (c *canvas) row(label, color string, cells []rune, after string) {
	plot := string(cells)
	if after == "" {
		plot = strings.TrimRight(plot, " ")
	}
	line := pad(c.short(label, labelWidth), labelWidth) + " " + c.paint(color, plot)
	if after != "" {
		line += " " + fmt.Sprintf("%*s", timeWidth, c.short(after, timeWidth))
	}
	c.line(line)
}

func (c *canvas) line(text string) {
	c.out.WriteString(strings.TrimRight(text, " "))
	c.out.WriteByte('\n')
}

// cells returns an empty row of the plot.
func (c *canvas) cells() []rune { return slices.Repeat([]rune{' '}, c.plot) }

// col returns the column of a moment.
func (c *canvas) col(ms int64) int {
	return int(min(max(float64(ms)/float64(c.total), 0)*float64(c.plot), float64(c.plot-1)))
}

func (c *canvas) title(events []Event, v *Verdict) {
	at := ""
	switch {
	case v != nil && !v.Time.IsZero():
		at = v.Time.Add(-time.Duration(v.TotalMS) * time.Millisecond).UTC().Format("2006-01-02 15:04:05 MST")
	case len(events) > 0:
		e := events[len(events)-1]
		at = e.Time.Add(-time.Duration(e.ElapsedMS) * time.Millisecond).UTC().Format("2006-01-02 15:04:05 MST")
	}
	text := strings.TrimRight("drain of "+at, " ")
	if v != nil {
		text += c.glyphs.separator + seconds(v.TotalMS) + c.glyphs.separator + v.Outcome
		text += c.glyphs.separator + "trigger: " + cmp.Or(v.Trigger, "unknown")
	}
	c.line(c.paint(bold, c.short(text, c.width)))
	c.line("")
}

// axis writes the ticks of the common time axis, at least nine columns apart.
func (c *canvas) axis() {
	step := c.tickStep()
	labels, ticks := c.cells(), slices.Repeat([]rune{c.glyphs.line}, c.plot)
	for at := int64(0); at <= c.total; at += step {
		col, label := c.col(at), []rune(axisTime(at))
		ticks[col] = c.glyphs.tick
		if col+len(label) <= c.plot {
			copy(labels[col:], label)
		}
	}
	c.row("", dim, labels, "")
	c.row("", dim, ticks, "")
}

// tickStep returns the smallest round step whose ticks do not crowd.
func (c *canvas) tickStep() int64 {
	for unit := int64(1); unit < 1e15; unit *= 10 {
		for _, step := range []int64{unit, 2 * unit, 5 * unit} {
			if float64(step)/float64(c.total)*float64(c.plot) >= 9 {
				return step
			}
		}
	}
	return c.total
}

func axisTime(ms int64) string { return (time.Duration(ms) * time.Millisecond).String() }

// pad fills text with spaces to n characters.
func pad(text string, n int) string {
	return text + strings.Repeat(" ", max(0, n-utf8.RuneCountInString(text)))
}

// short makes text printable and cuts it to n characters.
func (c *canvas) short(text string, n int) string {
	r := []rune(c.plain(text))
	if len(r) <= n {
		return string(r)
	}
	dots := []rune(c.glyphs.dots)
	return string(r[:n-len(dots)]) + string(dots)
}

// plain is [plain], and ASCII where the style asks for it.
func (c *canvas) plain(text string) string {
	text = plain(text)
	if !c.style.ASCII {
		return text
	}
	return strings.Map(func(r rune) rune {
		if r > '~' {
			return '?'
		}
		return r
	}, text)
}
