package manifest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Marks of what was put into a file. Lines that were replaced stay in the block, behind wasMark, so that it can be taken back.
const (
	beginMark = "# drain-agent: begin"
	wasMark   = "# drain-agent: was |"
	endMark   = "# drain-agent: end"
)

// edit replaces the lines [from, to) of a document, counted from 0, by lines without line ends. Its marks stand indent deep.
type edit struct {
	from, to, indent int
	lines            []string
}

// Editor collects edits of one document. Its methods find the place by nodes; the first thing that cannot be edited as text
// is kept, and Apply returns it.
type Editor struct {
	doc   *Document
	lines []string // with their line ends
	edits []edit
	cuts  []cut
	err   error
}

// cut replaces the bytes [from, to) of the document's text: how collections in braces are edited.
type cut struct {
	from, to int
	text     string
}

// NewEditor returns an editor of the document.
func NewEditor(d *Document) *Editor {
	lines := strings.SplitAfter(string(d.Text), "\n")
	if last := len(lines) - 1; lines[last] == "" {
		lines = lines[:last]
	}
	return &Editor{doc: d, lines: lines}
}

func (e *Editor) fail(node *yaml.Node, format string, args ...any) {
	if e.err == nil {
		e.err = e.doc.At(node, format, args...)
	}
}

// own reports whether a node is a collection of that kind that nothing else in the file shares.
func (e *Editor) own(node *yaml.Node, kind yaml.Kind, what string) bool {
	switch {
	case node == nil || node.Kind == yaml.ScalarNode:
		e.fail(node, "%s is not there, or not a %s", what, map[yaml.Kind]string{yaml.MappingNode: "mapping", yaml.SequenceNode: "list"}[kind])
	case node.Kind == yaml.AliasNode:
		e.fail(node, "%s is an alias: write it out, an edit of the anchor would change every place that uses it", what)
	case node.Kind != kind || len(node.Content) == 0 && node.Style&yaml.FlowStyle == 0:
		e.fail(node, "%s is empty or of the wrong kind", what)
	case node.Anchor != "":
		e.fail(node, "%s has the anchor &%s: write it out, an edit would change every place that uses it", what, node.Anchor)
	default:
		return true
	}
	return false
}

// AfterKey inserts lines into a mapping, after a key whose value is one line, such as name.
func (e *Editor) AfterKey(m *yaml.Node, key, what string, lines []string) {
	if !e.own(m, yaml.MappingNode, what) {
		return
	}
	if e.inBraces(m, 0, lines) {
		return
	}
	k, v := pair(m, key)
	if v == nil || v.Kind != yaml.ScalarNode || v.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		e.fail(m, "%s has no simple %s to insert after", what, key)
		return
	}
	e.insert(v.Line, k.Column-1, lines)
}

// BeforeKey inserts lines into a mapping, before a key and the comments that introduce it.
func (e *Editor) BeforeKey(m *yaml.Node, key, what string, lines []string) {
	if !e.own(m, yaml.MappingNode, what) {
		return
	}
	if e.inBraces(m, 0, lines) {
		return
	}
	k, _ := pair(m, key)
	if k == nil {
		k = m.Content[0]
	}
	e.before(k.Line-1, k.Column-1, lines)
}

// BeforeItem inserts lines into a list, before the item at the index; the last item where there are fewer.
func (e *Editor) BeforeItem(list *yaml.Node, index int, what string, lines []string) {
	if !e.own(list, yaml.SequenceNode, what) {
		return
	}
	if e.inBraces(list, index, lines) {
		return
	}
	item := list.Content[min(index, len(list.Content)-1)]
	line, indent := e.dash(item)
	if line < 0 {
		e.fail(item, "%s: cannot find where the item begins", what)
		return
	}
	e.before(line, indent, lines)
}

// dash finds the line and the column of the "-" before an item.
func (e *Editor) dash(item *yaml.Node) (line, indent int) {
	for at := item.Line - 1; at >= 0 && at < len(e.lines); at-- {
		trimmed := strings.TrimLeft(e.lines[at], " ")
		if strings.HasPrefix(trimmed, "-") {
			return at, len(e.lines[at]) - len(trimmed)
		}
		if at < item.Line-1 && trimmed != "" && trimmed[0] != '#' && strings.TrimSpace(trimmed) != "" {
			break
		}
	}
	return -1, 0
}

func (e *Editor) before(line, indent int, lines []string) {
	if line < 0 || line >= len(e.lines) || strings.TrimLeft(e.lines[line][:min(indent, len(e.lines[line]))], " ") != "" {
		e.fail(nil, "line %d: shares its line with something else: write one key or item a line", e.doc.Line+line)
		return
	}
	for line > 0 && strings.HasPrefix(e.lines[line-1], strings.Repeat(" ", indent)+"#") {
		line--
	}
	e.insert(line, indent, lines)
}

// Replace puts lines in the place of a key and its value.
func (e *Editor) Replace(m *yaml.Node, key, what string, lines []string) {
	if !e.own(m, yaml.MappingNode, what) {
		return
	}
	k, v := pair(m, key)
	if v != nil && (v.Kind == yaml.AliasNode || v.Anchor != "") {
		e.fail(v, "%s of %s is an alias or has an anchor: write it out", key, what)
		return
	}
	if m.Style&yaml.FlowStyle != 0 {
		from, value := e.offset(k), e.offset(v)
		end := flowEnd(string(e.doc.Text), value)
		e.cuts = append(e.cuts, cut{from, end, flow(lines)})
		return
	}
	from, indent := k.Line-1, k.Column-1
	if from >= len(e.lines) || strings.TrimSpace(e.lines[from][:min(indent, len(e.lines[from]))]) != "" {
		e.fail(k, "%s of %s stands behind a dash: put another key first", key, what)
		return
	}
	e.edits = append(e.edits, edit{from, e.end(from, indent, v), indent, deep(indent, lines)})
}

// end returns the line behind a key's value: the next line that is not deeper than the key. Comments as deep as the key
// belong to what follows. The items of a list may stand as deep as their key.
func (e *Editor) end(from, indent int, value *yaml.Node) int {
	last := from
	for at := from + 1; at < len(e.lines); at++ {
		trimmed := strings.TrimLeft(e.lines[at], " ")
		depth := len(e.lines[at]) - len(trimmed)
		switch {
		case strings.TrimSpace(trimmed) == "":
		case depth > indent, depth == indent && value.Kind == yaml.SequenceNode && strings.HasPrefix(trimmed, "-"):
			last = at
		case trimmed[0] == '#' && value.Kind == yaml.SequenceNode && depth == indent: // may stand between two items
		default:
			return last + 1
		}
	}
	return last + 1
}

func (e *Editor) insert(line, indent int, lines []string) {
	e.edits = append(e.edits, edit{line, line, indent, deep(indent, lines)})
}

// deep indents lines.
func deep(indent int, lines []string) []string {
	out := make([]string, len(lines))
	for i, line := range lines {
		if line != "" {
			out[i] = strings.Repeat(" ", indent) + line
		}
	}
	return out
}

// Apply returns the document's text with the edits in it.
func (e *Editor) Apply() ([]byte, error) {
	e.edits = append(e.edits, e.cutLines()...)
	if e.err != nil || len(e.edits) == 0 {
		return e.doc.Text, e.err
	}
	newline := "\n"
	if strings.HasSuffix(e.lines[0], "\r\n") {
		newline = "\r\n"
	}
	var out strings.Builder
	at := 0
	for _, one := range e.merged() {
		if one.from < at || one.to > len(e.lines) {
			return nil, &Error{e.doc.File, e.doc.Line + one.from, e.doc.Index, errors.New("two changes meet on one line: write one key a line")}
		}
		out.WriteString(strings.Join(e.lines[at:one.from], ""))
		e.write(&out, one, newline)
		at = one.to
	}
	out.WriteString(strings.Join(e.lines[at:], ""))
	return []byte(out.String()), nil
}

// merged returns the edits in the order of their places, insertions at one place as one.
func (e *Editor) merged() []edit {
	slices.SortStableFunc(e.edits, func(a, b edit) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to), -cmp.Compare(a.indent, b.indent))
	}) // what ends deeper ends first
	var out []edit
	for _, one := range e.edits {
		if n := len(out) - 1; n >= 0 && out[n].from == one.from && out[n].to == one.from && one.to == one.from && out[n].indent == one.indent {
			out[n].lines = append(out[n].lines, one.lines...)
			continue
		}
		out = append(out, one)
	}
	last := len(e.lines) - 1
	if n := len(out) - 1; out[n].from == last+1 && !strings.HasSuffix(e.lines[last], "\n") { // no line end to insert behind
		out[n].from, out[n].lines = last, append([]string{e.lines[last]}, out[n].lines...)
	}
	return out
}

func (e *Editor) write(out *strings.Builder, one edit, newline string) {
	indent := strings.Repeat(" ", one.indent)
	out.WriteString(indent + beginMark + newline)
	open := false // the replaced text was the end of a file without a line end
	for _, was := range e.lines[one.from:one.to] {
		open = !strings.HasSuffix(was, "\n")
		out.WriteString(indent + wasMark + was)
	}
	if open {
		out.WriteString(newline)
	}
	for _, line := range one.lines {
		out.WriteString(line + newline)
	}
	out.WriteString(indent + endMark)
	if !open {
		out.WriteString(newline)
	}
}

// Restore takes back every edit in a text and reports whether there was one. The error says that the marks do not match.
func Restore(text []byte) ([]byte, bool, error) {
	if !bytes.Contains(text, []byte(beginMark)) {
		return text, false, nil
	}
	var out bytes.Buffer
	begun := 0 // the line of the open block
	for i, line := range bytes.SplitAfter(text, []byte("\n")) {
		trimmed := bytes.TrimLeft(line, " ")
		switch {
		case bytes.HasPrefix(trimmed, []byte(beginMark)):
			if begun > 0 {
				return nil, false, fmt.Errorf("line %d: %q inside the block of line %d: the marks of drainctl were changed", i+1, beginMark, begun)
			}
			begun = i + 1
		case bytes.HasPrefix(trimmed, []byte(endMark)):
			if begun == 0 {
				return nil, false, fmt.Errorf("line %d: %q without a beginning: the marks of drainctl were changed", i+1, endMark)
			}
			begun = 0
			if !bytes.HasSuffix(line, []byte("\n")) {
				out.Truncate(len(bytes.TrimSuffix(bytes.TrimSuffix(out.Bytes(), []byte("\n")), []byte("\r"))))
			}
		case begun > 0:
			if was, ok := bytes.CutPrefix(trimmed, []byte(wasMark)); ok {
				out.Write(was)
			}
		default:
			out.Write(line)
		}
	}
	if begun > 0 {
		return nil, false, fmt.Errorf("line %d: %q without an end: the marks of drainctl were changed", begun, beginMark)
	}
	return out.Bytes(), true, nil
}
