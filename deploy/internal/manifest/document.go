// Package manifest reads files of Kubernetes YAML without ever changing a byte that nobody asked to change: documents keep
// their text, nodes their positions, and an edit is an insertion between lines that can be taken back.
package manifest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Document is one YAML document of a file.
type Document struct {
	File    string
	Index   int    // 1, 2, 3 … in its file
	Line    int    // the file's line, from 1, on which Text begins
	Text    []byte // as it stands in the file, its separator included
	Objects []*Object
	Joined  bool   // it follows the document before it without a separator: the next object of a JSON stream
	Passed  string // what it holds that makes pods, or is no object, and why that is left alone; "" for everything else
	Makes   bool   // what is left alone makes pods
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
	if err := encoded8(text); err != nil {
		err.File = file
		return []*Document{{File: file, Index: 1, Line: 1, Text: text}}, err
	}
	for _, chunk := range split(text) {
		for i, one := range stream(chunk) {
			d := &Document{File: file, Index: len(docs) + 1, Line: line, Text: one, Joined: i > 0}
			line += bytes.Count(one, []byte("\n"))
			docs = append(docs, d)
			if err := d.read(); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return docs, errors.Join(errs...)
}

// encoded8 says what is wrong with a text that is no UTF-8; its lines could not be edited.
func encoded8(text []byte) *Error {
	switch {
	case bytes.HasPrefix(text, []byte{0xff, 0xfe}), bytes.HasPrefix(text, []byte{0xfe, 0xff}):
		return &Error{Line: 1, Index: 1, Err: errors.New("the file is UTF-16: save it as UTF-8")}
	case utf8.Valid(text):
		return nil
	}
	at := 0
	for at < len(text) {
		r, size := utf8.DecodeRune(text[at:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		at += size
	}
	return &Error{Line: 1 + bytes.Count(text[:at], []byte("\n")), Index: 1, Err: fmt.Errorf("byte 0x%x is no UTF-8: save the file as UTF-8", text[at])}
}

// split cuts before every line that begins with "---", and before what follows a line "...". What stands before the first one and
// says nothing, comments and directives, stays with the document that it introduces. In YAML such a line ends a document even
// inside a block scalar.
func split(text []byte) [][]byte {
	var chunks [][]byte
	start, said, ended := 0, false, false
	for at := 0; at < len(text); {
		end := at + 1 + bytes.IndexByte(text[at:], '\n')
		if end == at {
			end = len(text)
		}
		line := bytes.TrimRight(text[at:end], "\r\n")
		if separator(line) && said || ended && !silent(line) {
			chunks = append(chunks, text[start:at])
			start, said, ended = at, false, false
		}
		said = said || separator(line) || !silent(line)
		ended = said && (ended || bytes.Equal(line, []byte("...")) || bytes.HasPrefix(line, []byte("... ")))
		at = end
	}
	return append(chunks, text[start:])
}

// stream cuts a chunk that is several JSON values, one behind the other, as kubectl and jq write them. Anything else stays whole.
func stream(chunk []byte) [][]byte {
	if trimmed := bytes.TrimSpace(chunk); len(trimmed) == 0 || trimmed[0] != '{' {
		return [][]byte{chunk}
	}
	decoder := json.NewDecoder(bytes.NewReader(chunk))
	var out [][]byte
	start := 0
	for {
		var value json.RawMessage
		switch err := decoder.Decode(&value); {
		case err == io.EOF && len(out) > 0: // what is left is white space
			out[len(out)-1] = chunk[start:]
			return out
		case err != nil:
			return [][]byte{chunk}
		}
		if len(out) > 0 {
			start += len(out[len(out)-1])
		}
		end := int(decoder.InputOffset())
		for end < len(chunk) && (chunk[end] == ' ' || chunk[end] == '\t' || chunk[end] == '\r') {
			end++
		}
		if end < len(chunk) && chunk[end] == '\n' {
			end++
		}
		out = append(out, chunk[start:end])
	}
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
	if root == nil || value == nil { // nothing but comments
		return nil
	}
	d.root = root
	top, isMap := value.(map[string]any)
	if !isMap || text(top["kind"]) == "" {
		d.Passed, d.Makes = "it is no Kubernetes object: it has no kind", makesPods(value, 0)
		if _, isList := value.([]any); isList && d.Makes {
			d.Passed = "it is a bare list of objects, which kubectl does not read either: put them below kind: List, items"
		}
		return nil // a values file, a list, a text: not ours to read
	}
	if key := itemsKey(top); key != "" {
		_, list := pair(root, key)
		items, _ := top[key].([]any)
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

// itemsKey is where a list of objects, or a Template of OpenShift, has them; "" for any other object.
func itemsKey(top map[string]any) string {
	switch kind := text(top["kind"]); {
	case strings.HasSuffix(kind, "List"):
		return "items"
	case kind == "Template" && strings.HasPrefix(text(top["apiVersion"]), "template.openshift.io/"), kind == "Template" && top["objects"] != nil:
		return "objects"
	}
	return ""
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
	decoder := yaml.NewDecoder(bytes.NewReader(chunk))
	if err := decoder.Decode(&doc); errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0 {
		return nil, nil, nil
	} else if err != nil {
		return nil, nil, err
	}
	var more yaml.Node
	if err := decoder.Decode(&more); err == nil && len(more.Content) > 0 {
		return nil, nil, fmt.Errorf("line %d: another object begins here: put a line --- before it", more.Content[0].Line)
	} else if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
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
	what := lineNumber.ReplaceAllStringFunc(Plainly(err), func(at string) string {
		n, _ := strconv.Atoi(strings.TrimPrefix(at, "line "))
		placed.Line = cmp.Or(placed.Line, d.Line+n-1)
		return fmt.Sprintf("line %d", d.Line+n-1)
	})
	placed.Line = cmp.Or(placed.Line, d.Line)
	for _, said := range []string{"yaml: ", "unmarshal errors:\n  ", fmt.Sprintf("line %d: ", placed.Line)} {
		what = strings.TrimPrefix(what, said)
	}
	if what == "found incompatible YAML document" {
		what = "the directive %YAML names another version than 1.1: take that line out"
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
