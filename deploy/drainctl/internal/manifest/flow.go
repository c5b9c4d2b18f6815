package manifest

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// inBraces inserts lines, as text in braces, before the item at the index of a collection that is written so; false for blocks.
// In a mapping the index is 0: the order of its keys says nothing.
func (e *Editor) inBraces(n *yaml.Node, index int, lines []string) bool {
	if n.Style&yaml.FlowStyle == 0 {
		return false
	}
	text := flow(lines)
	at := e.offset(n)
	switch {
	case index > 0 && len(n.Content) > 0:
		at = e.offset(n.Content[min(index, len(n.Content)-1)])
		text += ", "
	case at >= len(e.doc.Text) || !strings.ContainsRune("{[", rune(e.doc.Text[at])):
		e.fail(n, "cannot find where the braces begin: write it as a block")
		return true
	default:
		at++
		if len(n.Content) > 0 {
			text += ", "
		}
	}
	e.cuts = append(e.cuts, cut{at, at, text})
	return true
}

// offset returns where a node begins in the document's text.
func (e *Editor) offset(n *yaml.Node) int {
	at := 0
	for _, line := range e.lines[:min(n.Line-1, len(e.lines))] {
		at += len(line)
	}
	for range n.Column - 1 {
		_, size := utf8.DecodeRune(e.doc.Text[min(at, len(e.doc.Text)):])
		at += size
	}
	return at
}

// flow writes the lines of a block as they stand in braces, without the outer ones. A dash makes a list.
func flow(lines []string) string {
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(strings.Join(lines, "\n")), &n); err != nil {
		return "# " + err.Error() // the check of the result refuses it
	}
	var flatten func(n *yaml.Node)
	flatten = func(n *yaml.Node) {
		n.HeadComment, n.LineComment, n.FootComment = "", "", ""
		if n.Kind != yaml.ScalarNode {
			n.Style = yaml.FlowStyle
		}
		for _, one := range n.Content {
			flatten(one)
		}
	}
	flatten(&n)
	out, err := yaml.Marshal(&n)
	if err != nil {
		return "# " + err.Error()
	}
	out = bytes.TrimSpace(out)
	return string(out[1 : len(out)-1])
}

// flowEnd returns the end of the value that begins at the offset of a text and stands within braces.
func flowEnd(text string, at int) int {
	depth := 0
	for at < len(text) {
		switch c := text[at]; {
		case c == '"' || c == '\'':
			at = quotedEnd(text, at)
			if depth == 0 {
				return at
			}
			continue
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth--; depth <= 0 {
				return at + depth + 1 // an end of what surrounds a plain value does not belong to it
			}
		case c == '#' && at > 0 && strings.ContainsRune(" \t\n", rune(text[at-1])):
			at += max(strings.IndexByte(text[at:], '\n'), 0)
		case depth == 0 && (c == ',' || c == '\n'):
			return at
		}
		at++
	}
	return at
}

// quotedEnd returns the end of a quoted text.
func quotedEnd(text string, at int) int {
	quote := text[at]
	for at++; at < len(text); at++ {
		switch {
		case text[at] == '\\' && quote == '"':
			at++
		case text[at] == quote && quote == '\'' && strings.HasPrefix(text[at+1:], "'"):
			at++
		case text[at] == quote:
			return at + 1
		}
	}
	return len(text)
}

// cutLines turns the cuts into edits of whole lines: what is put back later must be lines.
func (e *Editor) cutLines() []edit {
	slices.SortStableFunc(e.cuts, func(a, b cut) int { return cmp.Compare(a.from, b.from) })
	text := string(e.doc.Text)
	var out []edit
	for i := 0; i < len(e.cuts); {
		first := strings.Count(text[:e.cuts[i].from], "\n")
		start := strings.LastIndexByte(text[:e.cuts[i].from], '\n') + 1
		at, end := start, start
		var changed strings.Builder
		for ; i < len(e.cuts) && (end == start || e.cuts[i].from < end); i++ {
			one := e.cuts[i]
			if one.from < at {
				e.fail(nil, "two changes meet in braces: write them as a block")
				return nil
			}
			changed.WriteString(text[at:one.from] + one.text)
			at = one.to
			end = max(end, lineEnd(text, at))
		}
		changed.WriteString(text[at:end])
		lines := strings.Split(strings.TrimSuffix(strings.ReplaceAll(changed.String(), "\r\n", "\n"), "\n"), "\n")
		indent := len(text[start:end]) - len(strings.TrimLeft(text[start:end], " "))
		out = append(out, edit{first, first + strings.Count(strings.TrimSuffix(text[start:end], "\n"), "\n") + 1, indent, lines})
	}
	if len(out) > 0 && strings.HasPrefix(strings.TrimSpace(text), "{") { // else readers take it for JSON, which has no comments
		out = append(out, edit{})
	}
	return out
}

// lineEnd returns the offset behind the line end that follows.
func lineEnd(text string, at int) int {
	if n := strings.IndexByte(text[at:], '\n'); n >= 0 {
		return at + n + 1
	}
	return len(text)
}
