package timeline

import "io"

// Style says which characters a drawing may use. The zero value is Unicode without colour.
type Style struct {
	ASCII bool // plain ASCII only
	Color bool // ANSI colours; whoever sets it has asked NO_COLOR and whether w is a terminal
}

// Draw draws one drain in the zero [Style].
func Draw(w io.Writer, events []Event, v *Verdict, width int) error {
	return Style{}.Draw(w, events, v, width)
}

// Draw draws one drain for people.
func (s Style) Draw(w io.Writer, events []Event, v *Verdict, width int) error { return nil }
