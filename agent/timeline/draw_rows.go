package timeline

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

func (c *canvas) phaseRows() {
	for _, r := range c.phases {
		cells := c.cells()
		for _, s := range r.visits {
			c.bar(cells, s)
		}
		c.row(r.name, phaseColor(r.name), cells, seconds(r.spent()))
	}
}

// bar fills the columns of a visit; one too short for a column is a sliver.
func (c *canvas) bar(cells []rune, s span) {
	from, to := c.col(s.from), c.col(s.to)
	if s.to >= c.total {
		to = c.plot
	}
	for i := from; i < to; i++ {
		cells[i] = c.glyphs.bar
	}
	if from >= to && cells[from] == ' ' {
		cells[from] = c.glyphs.sliver
	}
}

func phaseColor(name string) string {
	switch name {
	case "draining":
		return yellow
	case "settling", "stopping", "finished":
		return green
	}
	return cyan
}

// curveHeight is how many lines the in-flight curve takes.
const curveHeight = 4

// Values of a column in which no number can be drawn.
const (
	noData  = -1
	unknown = -2
)

func (c *canvas) curveRows() {
	columns := c.columns()
	peak := max(slices.Max(columns), 0)
	c.line("")
	if slices.Max(columns) == noData && !slices.Contains(columns, unknown) {
		c.line("in flight     nobody could read it")
		return
	}
	for level := curveHeight - 1; level >= 0; level-- {
		cells := c.cells()
		for i, n := range columns {
			cells[i] = c.curveCell(n, peak, level)
		}
		label, after := "", ""
		switch level {
		case curveHeight - 1:
			label, after = "in flight", "peak "+strconv.FormatInt(peak, 10)
		case 0:
			after = "0"
		}
		c.row(label, "", cells, after)
	}
}

// curveCell returns one cell of a column that shows n; level counts from the bottom.
func (c *canvas) curveCell(n, peak int64, level int) rune {
	switch {
	case n == unknown && level == 0:
		return '?'
	case n == 0 && level == 0:
		return c.glyphs.zero
	case n <= 0:
		return ' '
	}
	steps := len(c.glyphs.levels)
	filled := max(1, int(float64(n)/float64(peak)*float64(steps*curveHeight)+0.5)) - level*steps
	if filled <= 0 {
		return ' '
	}
	return c.glyphs.levels[min(filled, steps)-1]
}

// columns returns the highest number in flight in each column: a number stands until the next one was read.
func (c *canvas) columns() []int64 {
	columns := slices.Repeat([]int64{noData}, c.plot)
	if len(c.curve) > 0 {
		c.fillSteps(columns)
	}
	for _, s := range c.blind {
		for i := c.col(s.from) + 1; i < c.col(s.to); i++ {
			columns[i] = unknown
		}
		if i := c.col(s.from); columns[i] == noData {
			columns[i] = unknown
		}
	}
	return columns
}

func (c *canvas) fillSteps(columns []int64) {
	for k, p := range c.curve {
		from, to := c.col(p[0]), c.col(p[0])
		if k+1 < len(c.curve) {
			to = c.col(c.curve[k+1][0]) - 1
		}
		for i := from; i <= max(from, to); i++ {
			columns[i] = max(columns[i], p[1])
		}
	}
}

func (c *canvas) hookRows() {
	if len(c.hooks) == 0 {
		return
	}
	c.line("")
	for i, h := range c.hooks {
		cells := c.cells()
		from, to := c.col(h.from), c.col(h.to)
		for k := from; k <= to; k++ {
			cells[k] = c.glyphs.line
		}
		cells[from], cells[to] = c.glyphs.left, c.glyphs.right
		if h.open {
			cells[to] = c.glyphs.open
		}
		if h.would >= 0 {
			cells[c.col(h.would)] = c.glyphs.would
		}
		label := "hook " + h.name
		if i > 0 {
			label = "     " + h.name
		}
		c.row(label, "", cells, seconds(h.to-h.from))
	}
	if slices.ContainsFunc(c.hooks, func(h held) bool { return h.would >= 0 }) {
		c.line(strings.Repeat(" ", labelWidth+1) + string(c.glyphs.would) + " our rules would have answered here (observe mode)")
	}
}

// factRows marks on the axis what was done, and lists it.
func (c *canvas) factRows() {
	facts, left := c.facts, 0
	if len(facts) == 0 {
		return
	}
	if len(facts) > maxFacts {
		left = len(facts) - maxFacts
		facts = slices.Concat(facts[:maxFacts/2], facts[len(facts)-maxFacts/2:])
	}
	cells := c.cells()
	for i, k := range c.markColumns(facts) {
		cells[k] = factMark(i)
	}
	c.line("")
	c.row("done", "", cells, "")
	for i, f := range facts {
		if left > 0 && i == maxFacts/2 {
			c.line(fmt.Sprintf("   %s %d more", c.glyphs.dots, left))
		}
		prefix := fmt.Sprintf(" %c %9s %2s ", factMark(i), elapsed(f.ElapsedMS), f.problem())
		c.wrapped(prefix, strings.Fields(f.what()), factColor(f))
	}
}

// markColumns returns a column for each fact, in order: its own, or one beside it when they crowd.
// There are always more columns than facts.
func (c *canvas) markColumns(facts []Event) []int {
	columns := make([]int, len(facts))
	for i, f := range facts {
		columns[i] = c.col(f.ElapsedMS)
		if i > 0 {
			columns[i] = max(columns[i], columns[i-1]+1)
		}
	}
	for i := range columns {
		columns[i] = min(columns[i], c.plot-len(columns)+i)
	}
	return columns
}

func factMark(i int) rune { return []rune("123456789abcdefghijklmnopqrstuvwxyz")[i] }

// problem is the mark of an event's level.
func (e Event) problem() string {
	if e.Level == LevelInfo {
		return ""
	}
	return e.mark()
}

func factColor(e Event) string {
	switch e.Level {
	case LevelWarn:
		return yellow
	case LevelError:
		return red
	}
	return ""
}

// verdict writes what came of the drain, or how far it is.
func (c *canvas) verdict(events []Event, v *Verdict) {
	c.line("")
	switch {
	case v != nil:
		color := red
		if v.Outcome == "clean" {
			color = green
		}
		c.wrapped("verdict  ", strings.Fields(v.Outcome+" after "+seconds(v.TotalMS)+": "+v.why()), color)
		counts := v.counts()
		for i := range len(counts) - 1 {
			counts[i] += strings.TrimRight(c.glyphs.separator, " ")
		}
		c.wrapped("         ", counts, "")
	case len(events) > 0:
		e := events[len(events)-1]
		text := "none yet: " + plain(e.To)
		if e.LeftMS != nil {
			text += ", " + seconds(*e.LeftMS) + " left"
		}
		c.wrapped("verdict  ", strings.Fields(text), yellow)
	default:
		c.line("nothing happened yet")
	}
}

// wrapped writes words after prefix, on as many lines as it takes; further lines are indented as far.
func (c *canvas) wrapped(prefix string, words []string, color string) {
	indent := utf8.RuneCountInString(prefix)
	line := ""
	for _, word := range words {
		word = c.short(word, c.width-indent)
		if line != "" && indent+utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > c.width {
			c.line(prefix + c.paint(color, line))
			prefix, line = strings.Repeat(" ", indent), ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	c.line(prefix + c.paint(color, line))
}
