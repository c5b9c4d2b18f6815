// Package manifest reads files of Kubernetes YAML without ever changing a byte that nobody asked to change: documents keep
// their text, nodes their positions, and an edit is an insertion between lines that can be taken back.
package manifest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Document is one YAML document of a file.
type Document struct {
	File    string
	Index   int    // 1, 2, 3 … in its file
	Line    int    // the file's line, from 1, on which Text begins
	Text    []byte // as it stands in the file, its separator included
	Objects []*Object
	root    *yaml.Node
}

// Error is a problem with one document.
type Error struct {
	File        string
	Line, Index int // line of the file, document of the file; both from 1
	Err         error
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d: document %d: %v", e.File, e.Line, e.Index, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Parse splits a file into its documents and reads the objects in them. The documents' texts, put together, are the file,
// whatever is in it. The error joins one [Error] for each document that cannot be read; such a document has no objects.
func Parse(file string, text []byte) ([]*Document, error) {
	var docs []*Document
	var errs []error
	line := 1
	for _, chunk := range split(text) {
		d := &Document{File: file, Index: len(docs) + 1, Line: line, Text: chunk}
		line += bytes.Count(chunk, []byte("\n"))
		docs = append(docs, d)
		if err := d.read(); err != nil {
			errs = append(errs, err)
		}
	}
	return docs, errors.Join(errs...)
}

// split cuts before every line that begins with "---". What stands before the first one and says nothing, comments and
// directives, stays with the document that it introduces. In YAML such a line ends a document even inside a block scalar.
func split(text []byte) [][]byte {
	var chunks [][]byte
	start, said := 0, false
	for at := 0; at < len(text); {
		end := at + 1 + bytes.IndexByte(text[at:], '\n')
		if end == at {
			end = len(text)
		}
		line := bytes.TrimRight(text[at:end], "\r\n")
		if separator(line) && said {
			chunks = append(chunks, text[start:at])
			start, said = at, false
		}
		said = said || separator(line) || !silent(line)
		at = end
	}
	return append(chunks, text[start:])
}

func separator(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte("---"))
	return ok && (len(rest) == 0 || rest[0] == ' ' || rest[0] == '\t')
}

func silent(line []byte) bool {
	line = bytes.TrimSpace(bytes.TrimPrefix(line, []byte("\ufeff")))
	return len(line) == 0 || line[0] == '#' || line[0] == '%'
}

func (d *Document) read() error {
	root, value, err := decode(d.Text)
	if err != nil {
		return d.problem(err)
	}
	if root == nil {
		return nil
	}
	d.root = root
	top, isMap := value.(map[string]any)
	if !isMap || text(top["kind"]) == "" {
		return nil // a values file, a list, a text: not ours to read
	}
	if strings.HasSuffix(text(top["kind"]), "List") {
		_, list := pair(root, "items")
		items, _ := top["items"].([]any)
		for i, item := range items {
			one, ok := item.(map[string]any)
			if !ok || list == nil || list.Kind != yaml.SequenceNode || i >= len(list.Content) {
				continue
			}
			if err := d.add(list.Content[i], one); err != nil {
				return d.problem(err)
			}
		}
		return nil
	}
	if err := d.add(root, top); err != nil {
		return d.problem(err)
	}
	return nil
}

func (d *Document) add(node *yaml.Node, value map[string]any) error {
	o, err := newObject(d, node, value)
	if err == nil {
		d.Objects = append(d.Objects, o)
	}
	return err
}

// decode reads one document twice from one tree: as nodes with positions and as plain values. Duplicate keys are an error.
func decode(chunk []byte) (root *yaml.Node, value any, err error) {
	defer func() {
		if r := recover(); r != nil { // a parser's bug must not take the other documents with it
			root, err = nil, fmt.Errorf("cannot be read as YAML: %v", r)
		}
	}()
	var doc yaml.Node
	if err := yaml.Unmarshal(chunk, &doc); err != nil {
		return nil, nil, err
	}
	if len(doc.Content) == 0 {
		return nil, nil, nil
	}
	if err := doc.Decode(&value); err != nil {
		return nil, nil, err
	}
	return doc.Content[0], plain(value), nil
}

// plain turns keys that are no strings into strings, as JSON and the API server want them.
func plain(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for key, one := range v {
			v[key] = plain(one)
		}
	case map[any]any:
		m := make(map[string]any, len(v))
		for key, one := range v {
			m[fmt.Sprint(key)] = plain(one)
		}
		return m
	case []any:
		for i, one := range v {
			v[i] = plain(one)
		}
	}
	return value
}

func text(v any) string { s, _ := v.(string); return s }

// lineNumber is a place in an error of the YAML library; it counts within the document.
var lineNumber = regexp.MustCompile(`\bline \d+`)

// problem places an error in the file.
func (d *Document) problem(err error) error {
	if _, placed := errors.AsType[*Error](err); placed {
		return err
	}
	placed := &Error{File: d.File, Index: d.Index}
	what := lineNumber.ReplaceAllStringFunc(err.Error(), func(at string) string {
		n, _ := strconv.Atoi(strings.TrimPrefix(at, "line "))
		placed.Line = cmp.Or(placed.Line, d.Line+n-1)
		return fmt.Sprintf("line %d", d.Line+n-1)
	})
	placed.Line = cmp.Or(placed.Line, d.Line)
	for _, said := range []string{"yaml: ", "unmarshal errors:\n  ", fmt.Sprintf("line %d: ", placed.Line)} {
		what = strings.TrimPrefix(what, said)
	}
	if bytes.Contains(d.Text, []byte("{{")) {
		what += "; it looks like a template: render it first (helm template, kustomize build)"
	}
	placed.Err = errors.New(what)
	return placed
}

// At returns an error about a node of the document.
func (d *Document) At(node *yaml.Node, format string, args ...any) error {
	return &Error{File: d.File, Line: d.LineOf(node), Index: d.Index, Err: fmt.Errorf(format, args...)}
}

// LineOf returns the file's line on which a node begins; the document's own for nil.
func (d *Document) LineOf(node *yaml.Node) int {
	if node == nil {
		return d.Line
	}
	return d.Line + max(node.Line, 1) - 1
}
