package manifest

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Marks of what was put into a file. Lines that were replaced stay in the block, behind wasMark, so that it can be taken back.
const (
	beginMark = "# drain-agent: begin"
	wasMark   = "# drain-agent: was |"
	endMark   = "# drain-agent: end"

	joinedMark = ", with the line end before it" // behind beginMark
)

// edit replaces the lines [from, to) of a document, counted from 0, by lines without line ends. Its marks stand indent deep.
type edit struct {
	from, to, indent int
	lines            []string
}

// Editor merges patches into one document's text. The first thing that cannot be edited as text is kept, and Apply returns it.
type Editor struct {
	doc     *Document
	lines   []string // with their line ends
	parents map[*yaml.Node]*yaml.Node
	shared  map[*yaml.Node]bool // by their anchors
	flows   []*yaml.Node        // collections in braces that were changed as trees: they are written anew, as blocks
	edits   []edit
	err     error
}

// NewEditor returns an editor of the document.
func NewEditor(d *Document) *Editor {
	lines := strings.SplitAfter(string(d.Text), "\n")
	if last := len(lines) - 1; lines[last] == "" {
		lines = lines[:last]
	}
	e := &Editor{doc: d, lines: lines, parents: map[*yaml.Node]*yaml.Node{}, shared: map[*yaml.Node]bool{}}
	if d.root != nil {
		e.adopt(d.root)
	}
	return e
}

func (e *Editor) adopt(parent *yaml.Node) {
	for _, child := range parent.Content {
		e.parents[child] = parent
		if child.Kind == yaml.AliasNode {
			e.shared[child.Alias] = true
		}
		e.adopt(child)
	}
}

func (e *Editor) fail(node *yaml.Node, format string, args ...any) {
	if e.err == nil {
		e.err = e.doc.At(node, format, args...)
	}
}

// own reports whether a node is a collection of that kind that nothing else in the file shares.
func (e *Editor) own(node *yaml.Node, kind yaml.Kind, what string) bool {
	switch {
	case node.Kind == yaml.AliasNode:
		e.fail(node, "%s is an alias: write it out, an edit of the anchor would change every place that uses it", what)
	case node.Kind != kind:
		e.fail(node, "%s is not a %s", what, map[yaml.Kind]string{yaml.MappingNode: "mapping", yaml.SequenceNode: "list"}[kind])
	case e.shared[node]:
		e.fail(node, "%s has the anchor &%s: write it out, an edit would change every place that uses it", what, node.Anchor)
	default:
		return true
	}
	return false
}

// Merge merges a patch into a mapping of the document: what is not there is inserted; scalars, and hooks and probes, of which there
// is one kind at a time, are replaced; items of lists are known by their name. New items stand behind the item before them in the
// patch, or first.
func (e *Editor) Merge(m, patch *yaml.Node, what string) {
	if !e.own(m, yaml.MappingNode, what) {
		return
	}
	for i := 0; i+1 < len(patch.Content); i += 2 {
		key, value := patch.Content[i], patch.Content[i+1]
		k, v := pair(m, key.Value)
		what := what + "." + key.Value
		switch {
		case v == nil:
			e.addKey(m, what, key, value)
		case v.Kind == yaml.AliasNode || e.shared[v]:
			e.own(v, value.Kind, what)
		case value.Kind == yaml.ScalarNode && value.Value == v.Value:
		case value.Kind == yaml.SequenceNode && Find(value.Content[0], "name") == nil, // nothing to know its items by
			value.Kind == yaml.ScalarNode, key.Value == "preStop", strings.HasSuffix(key.Value, "Probe"), len(v.Content) == 0 && v.Kind != yaml.ScalarNode, v.Tag == "!!null":
			e.replace(m, what, k, v, key, value)
		case value.Kind == yaml.SequenceNode:
			e.mergeList(v, value, what)
		default:
			e.Merge(v, value, what)
		}
	}
}

func (e *Editor) mergeList(list, patch *yaml.Node, what string) {
	if !e.own(list, yaml.SequenceNode, what) {
		return
	}
	behind := 0
	for _, item := range patch.Content {
		name := Find(item, "name").Value
		at := slices.IndexFunc(list.Content, func(n *yaml.Node) bool { own := Find(n, "name"); return own != nil && own.Value == name })
		if at >= 0 {
			e.Merge(list.Content[at], item, what+" "+name)
			behind = at + 1
			continue
		}
		if e.inBraces(list) {
			list.Content = slices.Insert(list.Content, behind, item)
			behind++
			continue
		}
		e.before(list.Content[min(behind, len(list.Content)-1)], what, block(yaml.SequenceNode, item))
	}
}

// addKey inserts a key: behind the name, before the containers or the spec, or first.
func (e *Editor) addKey(m *yaml.Node, what string, key, value *yaml.Node) {
	at, name := 0, false
	for i := 0; i+1 < len(m.Content) && !name; i += 2 {
		switch k, v := m.Content[i], m.Content[i+1]; {
		case k.Value == "spec", k.Value == "containers":
			at = i
		case k.Value == "name" && v.Kind == yaml.ScalarNode && v.Style&(yaml.LiteralStyle|yaml.FoldedStyle) == 0:
			at, name = i+2, true
		}
	}
	switch {
	case e.inBraces(m):
		m.Content = slices.Insert(m.Content, at, key, value)
	case name:
		e.insert(m.Content[at-1].Line, m.Content[at-2].Column-1, block(yaml.MappingNode, key, value))
	default:
		e.before(m.Content[at], what, block(yaml.MappingNode, key, value))
	}
}

// before inserts lines before a key, or before an item of a list, and the comments that introduce it.
func (e *Editor) before(node *yaml.Node, what string, lines []string) {
	line, indent := node.Line-1, node.Column-1
	if parent := e.parents[node]; parent != nil && parent.Kind == yaml.SequenceNode {
		line, indent = e.dash(node)
	}
	if line < 0 || line >= len(e.lines) || strings.TrimLeft(e.lines[line][:min(indent, len(e.lines[line]))], " ") != "" {
		e.fail(node, "%s: shares its line with something else: write one key or item a line", what)
		return
	}
	for line > 0 && strings.HasPrefix(e.lines[line-1], strings.Repeat(" ", indent)+"#") {
		line--
	}
	e.insert(line, indent, lines)
}

// dash finds the line and the column of the "-" before an item; -1 where it cannot.
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

// replace puts a key and its value in the place of those that are there.
func (e *Editor) replace(m *yaml.Node, what string, k, v, key, value *yaml.Node) {
	if e.inBraces(m) {
		*v = *value
		return
	}
	line := e.lines[min(k.Line, len(e.lines))-1]
	if before := strings.TrimSpace(line[:min(k.Column-1, len(line))]); before == "-" && v.Line > k.Line { // the key stays behind its dash
		e.edits = append(e.edits, edit{v.Line - 1, e.end(k.Line-1, k.Column-1, v), v.Column - 1, deep(v.Column-1, encoded(value))})
		return
	}
	e.replaceLines(k.Line-1, k.Column-1, what, v, block(yaml.MappingNode, key, value))
}

func (e *Editor) replaceLines(from, indent int, what string, value *yaml.Node, lines []string) {
	if from < 0 || from >= len(e.lines) || strings.TrimSpace(e.lines[from][:min(indent, len(e.lines[from]))]) != "" {
		e.fail(value, "%s stands behind a dash: put another key first", what)
		return
	}
	e.edits = append(e.edits, edit{from, e.end(from, indent, value), indent, deep(indent, lines)})
}

// inBraces reports whether a collection stands in braces, which then are written anew as a block: what stands in braces stays in
// them but for what is on the way to a change.
func (e *Editor) inBraces(n *yaml.Node) bool {
	var top *yaml.Node
	for at := n; at != nil; at = e.parents[at] {
		if at.Style&yaml.FlowStyle != 0 || slices.Contains(e.flows, at) {
			top = at
		}
	}
	if top == nil {
		return false
	}
	if !slices.Contains(e.flows, top) {
		e.flows = append(e.flows, top)
	}
	for at := n; at != e.parents[top]; at = e.parents[at] {
		at.Style &^= yaml.FlowStyle
		if at.LineComment != "" && len(at.Content) > 0 { // a block has no line for it
			first := at.Content[0]
			first.HeadComment = strings.TrimSpace(at.LineComment + "\n" + first.HeadComment)
			at.LineComment = ""
		}
	}
	return true
}

// unbrace replaces a collection in braces by its tree, with the comments in it but without those around it, which stay.
func (e *Editor) unbrace(n *yaml.Node) {
	const what = "what stands in braces"
	parent := e.parents[n]
	n.HeadComment, n.FootComment = "", ""
	switch {
	case parent == nil || parent.Kind == yaml.DocumentNode:
		to := len(e.lines)
		for to > n.Line && (silent([]byte(e.lines[to-1])) || strings.HasPrefix(e.lines[to-1], "...")) {
			to--
		}
		if before := e.lines[n.Line-1]; strings.TrimSpace(before[:min(n.Column-1, len(before))]) != "" {
			e.fail(n, "%s shares its line with something else: put it on a line of its own", what)
		}
		e.edits = append(e.edits, edit{n.Line - 1, to, 0, encoded(n)})
	case parent.Kind == yaml.SequenceNode:
		line, indent := e.dash(n)
		e.replaceLines(line, indent, what, n, block(yaml.SequenceNode, n))
	default:
		k := parent.Content[slices.Index(parent.Content, n)-1]
		k.HeadComment, k.FootComment = "", ""
		e.replaceLines(k.Line-1, k.Column-1, what, n, block(yaml.MappingNode, k, n))
	}
}

// block writes nodes as a collection of that kind, in lines.
func block(kind yaml.Kind, content ...*yaml.Node) []string {
	return encoded(&yaml.Node{Kind: kind, Content: content})
}

func encoded(n *yaml.Node) []string {
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	enc.CompactSeqIndent()
	if err := enc.Encode(n); err != nil {
		return []string{"# " + err.Error()} // the caller's check of the result refuses it
	}
	return strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
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
		case trimmed[0] == '}', trimmed[0] == ']':
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
	for _, n := range e.flows {
		if e.err == nil {
			e.unbrace(n)
		}
	}
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
