package manifest

import (
	"bytes"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Restore takes back every edit in a text and reports whether there was one. Marks inside a string, such as a ConfigMap that
// carries a manifest, belong to the string. The error says that the marks do not match.
func Restore(text []byte) ([]byte, bool, error) {
	if !bytes.Contains(text, []byte("# drain-agent: ")) {
		return text, false, nil
	}
	inside := insideStrings(text)
	var out bytes.Buffer
	number, begun, edited := 0, 0, false // lines; the one where the open edit begins
	for line := range bytes.Lines(text) {
		number++
		trimmed := bytes.TrimLeft(line, " ")
		mark := strings.TrimRight(string(trimmed), " \t\r\n")
		begins, ends := mark == beginMark || mark == beginMark+joinedMark, mark == endMark
		if inside[number] {
			begins, ends, mark, trimmed = false, false, "", nil
		}
		if mark == beginMark+joinedMark || ends && !bytes.HasSuffix(line, []byte("\n")) { // the line end before it is ours, too
			out.Truncate(len(bytes.TrimSuffix(bytes.TrimSuffix(out.Bytes(), []byte("\n")), []byte("\r"))))
		}
		switch {
		case begins && begun > 0 || ends && begun == 0:
			return nil, false, marksChanged(number)
		case begins:
			begun, edited = number, true
		case ends:
			begun = 0
		case begun == 0:
			out.Write(line)
		default:
			if was, ok := bytes.CutPrefix(trimmed, []byte(wasMark)); ok {
				out.Write(was)
			}
		}
	}
	if begun > 0 {
		return nil, false, marksChanged(begun)
	}
	return out.Bytes(), edited, nil
}

func marksChanged(line int) error {
	return fmt.Errorf("line %d: the marks of drainctl were changed: every %q needs one %q", line, beginMark, endMark)
}

// Separator is a document separator between marks, behind a text: it parts objects of a JSON stream once one of them is YAML.
func Separator(behind []byte) string {
	const rest = "\n---\n" + endMark + "\n"
	if !bytes.HasSuffix(behind, []byte("\n")) {
		return "\n" + beginMark + joinedMark + rest
	}
	return beginMark + rest
}

// insideStrings returns the lines, from 1, that belong to strings of several lines: block scalars and quoted ones. A document that
// cannot be read has none: its lines are taken as they look.
func insideStrings(text []byte) map[int]bool {
	inside := map[int]bool{}
	first := 1
	for _, chunk := range split(text) {
		lines := strings.SplitAfter(string(chunk), "\n")
		if root, _, err := decode(chunk); err == nil && root != nil {
			markStrings(root, -1, lines, func(line int) { inside[first+line] = true })
		}
		first += bytes.Count(chunk, []byte("\n"))
	}
	return inside
}

// markStrings calls mark with every line, from 0, of the strings below a node that stand on lines after their first.
func markStrings(n *yaml.Node, indent int, lines []string, mark func(line int)) {
	for i, child := range n.Content {
		deep := n.Column - 1 // the dash of an item
		if n.Kind == yaml.MappingNode && i%2 == 1 {
			deep = n.Content[i-1].Column - 1 // a value stands below its key
		}
		markStrings(child, deep, lines, mark)
	}
	if n.Kind != yaml.ScalarNode || n.Line < 1 || n.Line > len(lines) {
		return
	}
	switch {
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		markBlock(n.Line-1, indent, lines, mark)
	case n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0:
		markQuoted(n, lines, mark)
	}
}

// markBlock marks the lines of a block scalar whose header is on that line, below something indent deep.
func markBlock(header, indent int, lines []string, mark func(line int)) {
	deep := -1
	if at := strings.LastIndexAny(lines[header], "|>"); at >= 0 {
		for _, r := range strings.TrimLeft(lines[header][at+1:], "+-")[:min(1, len(strings.TrimLeft(lines[header][at+1:], "+-")))] {
			if r >= '1' && r <= '9' {
				deep = indent + int(r-'0')
			}
		}
	}
	for i := header + 1; i < len(lines); i++ {
		content := strings.TrimLeft(strings.TrimRight(lines[i], "\r\n"), " ")
		depth := len(strings.TrimRight(lines[i], "\r\n")) - len(content)
		switch {
		case content == "":
			continue
		case deep < 0:
			deep = depth
		}
		if depth < deep || depth <= indent {
			return
		}
		mark(i)
	}
}

// markQuoted marks the further lines of a quoted scalar.
func markQuoted(n *yaml.Node, lines []string, mark func(line int)) {
	line, at := n.Line-1, n.Column
	quote := byte('\'')
	if n.Style&yaml.DoubleQuotedStyle != 0 {
		quote = '"'
	}
	if open := strings.IndexByte(lines[line][min(n.Column-1, len(lines[line])):], quote); open > 0 { // behind a tag or an anchor
		at += open
	}
	for ; line < len(lines); line, at = line+1, 0 {
		if line > n.Line-1 {
			mark(line)
		}
		for ; at < len(lines[line]); at++ {
			switch {
			case lines[line][at] == '\\' && quote == '"':
				at++
			case lines[line][at] == quote && quote == '\'' && at+1 < len(lines[line]) && lines[line][at+1] == quote:
				at++
			case lines[line][at] == quote:
				return
			}
		}
	}
}
