// Package inject adds the agent to pods: it finds the Envoy, decides the shape, and inserts text into the user's YAML.
package inject

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/manifest"
)

// Report says what happened to one workload.
type Report struct {
	Workload *manifest.Workload
	Plan     *Plan  // nil when it was left alone
	Left     string // why it was left alone
}

// File injects the agent into every workload of one file. What an earlier run put there is taken out first, so that a
// second run changes nothing and a run with other options replaces it; only the token is kept. The error joins all
// problems; then there is no text.
func File(name string, text []byte, o Options) ([]byte, []Report, error) {
	original, injected, err := manifest.Restore(text)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	tokens := map[string]string{}
	if injected {
		tokens = tokensOf(name, text)
	}
	docs, err := manifest.Parse(name, original)
	if err != nil {
		return nil, nil, err
	}
	var objects []*manifest.Object
	for _, d := range docs {
		objects = append(objects, d.Objects...)
	}
	var out bytes.Buffer
	var reports []Report
	var errs []error
	for _, d := range docs {
		changed, done, err := document(d, objects, tokens, o)
		out.Write(changed)
		reports = append(reports, done...)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, err
	}
	return out.Bytes(), reports, check(name, original, out.Bytes(), reports)
}

// check proves on the result that it can be taken back and that every pod has its agent.
func check(name string, original, result []byte, reports []Report) error {
	if back, _, err := manifest.Restore(result); err != nil || !bytes.Equal(back, original) {
		return fmt.Errorf("%s: this text cannot be edited so that the edit can be taken back (%v); nothing was changed", name, err)
	}
	docs, err := manifest.Parse(name, result)
	if err != nil {
		return fmt.Errorf("%s: the text that would come out is not valid, so nothing was changed: %w", name, err)
	}
	have := 0
	for _, d := range docs {
		for _, o := range d.Objects {
			if o.Workload != nil && o.Workload.Container(AgentContainer) != nil {
				have++
			}
		}
	}
	if have != len(reports) { // those that were left alone have one of their own
		return fmt.Errorf("%s: %d of %d pods would have their agent, so nothing was changed: write the pod templates as plain blocks", name, have, len(reports))
	}
	return nil
}

// tokensOf returns the tokens that an injected file has, by workload.
func tokensOf(name string, text []byte) map[string]string {
	tokens := map[string]string{}
	docs, _ := manifest.Parse(name, text) // what cannot be read has no token; the caller parses the original and reports
	for _, d := range docs {
		for _, o := range d.Objects {
			if o.Workload != nil && o.Workload.Pod.Annotations[TokenAnnotation] != "" {
				tokens[key(o)] = o.Workload.Pod.Annotations[TokenAnnotation]
			}
		}
	}
	return tokens
}

func key(o *manifest.Object) string { return o.Kind + "/" + o.Namespace + "/" + o.Name }

func document(d *manifest.Document, objects []*manifest.Object, tokens map[string]string, o Options) ([]byte, []Report, error) {
	editor := manifest.NewEditor(d)
	var reports []Report
	for _, object := range d.Objects {
		w := object.Workload
		if w == nil {
			continue
		}
		if w.Container(AgentContainer) != nil {
			reports = append(reports, Report{Workload: w, Left: "has a container " + AgentContainer + " that drainctl did not write"})
			continue
		}
		own := o
		if own.Token == "" {
			own.Token = tokens[key(object)]
		}
		if own.Token == "" {
			own.Token = rand.Text()
		}
		p, err := NewPlan(w, objects, own)
		if err != nil {
			return nil, nil, d.At(w.Template, "%s %s: %w", w.Kind, w.Name, err)
		}
		p.write(editor, w)
		reports = append(reports, Report{Workload: w, Plan: p})
	}
	text, err := editor.Apply()
	return text, reports, err
}

// write puts the plan into the text.
func (p *Plan) write(e *manifest.Editor, w *manifest.Workload) {
	spec := manifest.Find(w.Template, "spec")
	p.writeAnnotations(e, w)
	if p.SetGrace {
		line := []string{p.graceLine()}
		if manifest.Find(spec, "terminationGracePeriodSeconds") != nil {
			e.Replace(spec, "terminationGracePeriodSeconds", "the pod's spec", line)
		} else {
			e.BeforeKey(spec, "containers", "the pod's spec", line)
		}
	}
	if first := p.firstInit(); first != nil {
		addItems(e, spec, "initContainers", first)
	}
	if !p.Native {
		e.BeforeItem(manifest.Find(spec, "containers"), p.agentIndex(), "containers", p.render("agent"))
	}
	addItems(e, spec, "volumes", p.render("volumes"))
	for _, h := range p.Hooks {
		node := w.Container(h.container)
		p.writeHook(e, node, h)
		if h.name == "proxy" && p.StartProbe {
			e.AfterKey(node, "name", "container "+h.container, p.render("startup"))
		}
	}
}

func (p *Plan) graceLine() string {
	return "terminationGracePeriodSeconds: " + strconv.Itoa(int(p.Grace.Seconds())) + " # and --grace-period below: the agent cannot see this field"
}

// firstInit returns what stands before the pod's own init containers.
func (p *Plan) firstInit() []string {
	var lines []string
	if p.Chained {
		lines = p.render("install")
	}
	if p.Native {
		lines = append(lines, p.render("agent")...)
	}
	return lines
}

// agentIndex is where a classic agent stands among the regular containers.
func (p *Plan) agentIndex() int {
	if p.Wait {
		return 1
	}
	return 0
}

// addItems puts items at the head of a list of the pod's spec, which is made where there is none.
func addItems(e *manifest.Editor, spec *yaml.Node, list string, items []string) {
	at := manifest.Find(spec, list)
	switch {
	case at == nil:
		e.BeforeKey(spec, "containers", "the pod's spec", append([]string{list + ":"}, items...))
	case len(at.Content) == 0 && at.Kind != yaml.AliasNode && spec.Style&yaml.FlowStyle == 0:
		e.Replace(spec, list, "the pod's spec", append([]string{list + ":"}, items...))
	case at.Kind == yaml.SequenceNode && at.Style&yaml.FlowStyle != 0 && spec.Style&yaml.FlowStyle == 0:
		e.Replace(spec, list, "the pod's spec", append(append([]string{list + ":"}, items...), blockOf(at)...))
	default:
		e.BeforeItem(at, 0, list, items)
	}
}

func (p *Plan) writeHook(e *manifest.Editor, c *yaml.Node, h hook) {
	what := "container " + h.container
	lines := append([]string{"lifecycle:"}, indented(p.preStop(h))...)
	if was := manifest.Find(c, "lifecycle"); was != nil {
		if start := manifest.Find(was, "postStart"); start != nil {
			rest := blockOf(&yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Value: "postStart"}, start}})
			lines = append(lines, indented(rest)...)
		}
		e.Replace(c, "lifecycle", what, lines)
	} else {
		e.AfterKey(c, "name", what, lines)
	}
	if h.chain == nil {
		return
	}
	mount := []string{sharedMount}
	if at := manifest.Find(c, "volumeMounts"); at == nil {
		e.AfterKey(c, "name", what, append([]string{"volumeMounts:"}, mount...))
	} else {
		addItems(e, c, "volumeMounts", mount)
	}
}

// annotations are the pod's: the token, and for a mesh the port that is not to be redirected, or its mTLS would refuse
// kubelet's calls of the hooks.
func (p *Plan) annotations(w *manifest.Workload) [][2]string {
	var keys [][2]string
	if p.Token != "" {
		keys = append(keys, [2]string{TokenAnnotation, p.Token})
	}
	exclude, port := ExcludeInbound(p.Proxy.Mesh), strconv.Itoa(Port)
	was := w.Pod.Annotations[exclude]
	switch {
	case exclude == "" || slices.Contains(strings.Split(was, ","), port):
	case was != "":
		keys = append(keys, [2]string{exclude, was + "," + port})
	default:
		keys = append(keys, [2]string{exclude, port})
	}
	return keys
}

func (p *Plan) writeAnnotations(e *manifest.Editor, w *manifest.Workload) {
	meta := manifest.Find(w.Template, "metadata")
	notes := manifest.Find(meta, "annotations")
	var lines []string
	for _, one := range p.annotations(w) {
		line := one[0] + ": " + strconv.Quote(one[1])
		if manifest.Find(notes, one[0]) != nil {
			e.Replace(notes, one[0], "annotations", []string{line})
		} else {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return
	}
	mapping := func(n *yaml.Node) bool { return n != nil && n.Kind == yaml.MappingNode }
	notesLines := append([]string{"annotations:"}, indented(lines)...)
	metaLines := append([]string{"metadata:"}, indented(notesLines)...)
	switch {
	case mapping(notes):
		e.BeforeKey(notes, "", "annotations", lines)
	case notes != nil:
		e.Replace(meta, "annotations", "metadata", notesLines)
	case mapping(meta):
		e.BeforeKey(meta, "", "metadata", notesLines)
	case meta != nil:
		e.Replace(w.Template, "metadata", "the pod template", metaLines)
	default:
		e.BeforeKey(w.Template, "spec", "the pod template", metaLines)
	}
}

func indented(lines []string) []string {
	out := make([]string, len(lines))
	for i, line := range lines {
		out[i] = "  " + line
	}
	return out
}

// blockOf writes a node as a block.
func blockOf(n *yaml.Node) []string {
	if n.Kind == yaml.SequenceNode {
		plain := *n
		plain.Style = 0
		n = &plain
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(n); err != nil {
		return []string{"# " + err.Error()} // the check of the result refuses it
	}
	return strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
}
