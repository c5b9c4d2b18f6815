package lint

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
)

// SilencePrefix begins the annotations, of an object or of its pods, that silence one rule each: lint.drain-agent.io/RULE: reason.
const SilencePrefix = "lint.drain-agent.io/"

// Silence keeps a rule quiet in some places. Empty patterns match everything; * stands for any text without a slash.
type Silence struct {
	Rule   string `yaml:"rule"`
	File   string `yaml:"file"`   // of the whole name, or of its last part
	Object string `yaml:"object"` // "Deployment web", "Job *"
	Reason string `yaml:"reason"`
}

// ParseConfig reads .drainctl.yaml. The error says everything that is wrong with it, each with its line.
func ParseConfig(file string, text []byte) ([]Silence, error) {
	var root yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&root); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("%s: cannot be read as YAML: %s", file, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	const shape = "write lint: {silence: [{rule: NAME, reason: TEXT, file: PATTERN, object: PATTERN}]}"
	var errs []error
	var out []Silence
	for node := range entries(&root, file, &errs, shape) {
		one := Silence{}
		for i := 0; i+1 < len(node.Content); i += 2 {
			key, value := node.Content[i], node.Content[i+1]
			field, known := map[string]*string{"rule": &one.Rule, "file": &one.File, "object": &one.Object, "reason": &one.Reason}[key.Value]
			if !known || value.Kind != yaml.ScalarNode {
				errs = append(errs, fmt.Errorf("%s:%d: %s is not known here; %s", file, key.Line, key.Value, shape))
				continue
			}
			*field = value.Value
			if _, err := path.Match(value.Value, ""); err != nil && (key.Value == "file" || key.Value == "object") {
				errs = append(errs, fmt.Errorf("%s:%d: %s: %q is no pattern; * stands for any text without a slash", file, key.Line, key.Value, value.Value))
			}
		}
		switch {
		case !isRule(one.Rule):
			errs = append(errs, fmt.Errorf("%s:%d: there is no rule %q; the rules stand in %s", file, node.Line, one.Rule, Docs))
		case strings.TrimSpace(one.Reason) == "":
			errs = append(errs, fmt.Errorf("%s:%d: %s is silenced without a reason; add reason: why it does not matter here", file, node.Line, one.Rule))
		}
		out = append(out, one)
	}
	return out, errors.Join(errs...)
}

// entries goes through the mappings of lint.silence.
func entries(root *yaml.Node, file string, errs *[]error, shape string) func(func(*yaml.Node) bool) {
	return func(yield func(*yaml.Node) bool) {
		top := root.Content[0]
		list := manifest.Find(top, "lint", "silence")
		if list == nil || list.Kind != yaml.SequenceNode {
			if top.Kind != yaml.ScalarNode || top.Tag != "!!null" {
				*errs = append(*errs, fmt.Errorf("%s:%d: no list of silences; %s", file, top.Line, shape))
			}
			return
		}
		for _, node := range list.Content {
			if node.Kind != yaml.MappingNode {
				*errs = append(*errs, fmt.Errorf("%s:%d: a silence has a rule and a reason; %s", file, node.Line, shape))
			} else if !yield(node) {
				return
			}
		}
	}
}

func isRule(id string) bool {
	return slices.ContainsFunc(Rules(), func(r Rule) bool { return r.ID == id })
}

func (s Silence) matches(f Finding) bool {
	inFile, _ := path.Match(s.File, f.File) // patterns were tried when they were read
	inName, _ := path.Match(s.File, path.Base(f.File))
	object, _ := path.Match(s.Object, f.Object)
	return s.Rule == f.Rule && (s.File == "" || inFile || inName) && (s.Object == "" || object)
}

// silenced reports whether the object, its pods or the configuration give a reason not to say a finding.
func silenced(s *set, o *manifest.Object, f Finding, silences []Silence) bool {
	if f.Rule == "silence" {
		return false
	}
	return strings.TrimSpace(annotationsOf(s, o)[SilencePrefix+f.Rule]) != "" ||
		slices.ContainsFunc(silences, func(one Silence) bool { return one.matches(f) })
}

func annotationsOf(s *set, o *manifest.Object) map[string]string {
	all := maps.Clone(o.Annotations)
	if p := s.pods[o]; p != nil && len(p.Pod.Annotations) > 0 {
		if all == nil {
			all = map[string]string{}
		}
		maps.Copy(all, p.Pod.Annotations)
	}
	return all
}

func silenceIsExplained(s *set, o *manifest.Object, hit hitFunc) {
	all := annotationsOf(s, o)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		rule, ours := strings.CutPrefix(key, SilencePrefix)
		switch {
		case !ours:
		case !isRule(rule):
			hit(manifest.FindDeep(o.Node, key), "there is no rule %s", rule)
		case strings.TrimSpace(all[key]) == "":
			hit(manifest.FindDeep(o.Node, key), "%s is silenced without a reason", rule)
		}
	}
}
