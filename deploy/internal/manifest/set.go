package manifest

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Setting is one number below a key of a pod's spec.
type Setting struct {
	Workload *Workload
	Key      string
	Value    string
	Arg      *yaml.Node // instead of Key: this plain text, such as an argument, becomes Value
}

func (s *Setting) line() int {
	if s.Arg != nil {
		return s.Arg.Line
	}
	spec := Find(s.Workload.Template, "spec")
	if _, v := pair(spec, s.Key); v != nil {
		return v.Line
	}
	return spec.Line
}

// Set writes settings into a document's text, without marks: they are the user's own from then on. Nothing else changes.
func (d *Document) Set(settings []Setting) ([]byte, error) {
	lines := strings.SplitAfter(string(d.Text), "\n")
	settings = slices.Clone(settings)
	slices.SortFunc(settings, func(a, b Setting) int { // from the end, so that places stay
		return b.line() - a.line()
	})
	for _, s := range settings {
		spec := Find(s.Workload.Template, "spec")
		k, v := pair(spec, s.Key)
		if s.Arg != nil {
			k, v = s.Arg, s.Arg
		}
		switch {
		case spec.Kind != yaml.MappingNode || spec.Anchor != "" || len(spec.Content) == 0:
			return nil, d.At(spec, "%s %s: its spec is shared or empty: write %s: %s by hand", s.Workload.Kind, s.Workload.Name, s.Key, s.Value)
		case v != nil && (v.Kind != yaml.ScalarNode || v.Style != 0 || v.Tag == "!!null" || v.Line != k.Line):
			return nil, d.At(v, "%s %s: %s is no plain number: write %s by hand", s.Workload.Kind, s.Workload.Name, s.Key, s.Value)
		case v != nil:
			line := lines[v.Line-1]
			lines[v.Line-1] = line[:v.Column-1] + s.Value + line[v.Column-1+len(v.Value):]
		case spec.Style&yaml.FlowStyle != 0:
			first := spec.Content[0]
			line := lines[first.Line-1]
			quoted := ""
			if first.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 {
				quoted = `"`
			}
			lines[first.Line-1] = line[:first.Column-1] + quoted + s.Key + quoted + ": " + s.Value + ", " + line[first.Column-1:]
		default:
			first := spec.Content[0]
			newline := "\n"
			if strings.HasSuffix(lines[first.Line-1], "\r\n") {
				newline = "\r\n"
			}
			lines[first.Line-1] = strings.Repeat(" ", first.Column-1) + s.Key + ": " + s.Value + newline + lines[first.Line-1]
		}
	}
	return []byte(strings.Join(lines, "")), nil
}
