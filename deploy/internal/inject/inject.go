// Package inject adds the agent to pods: it finds the Envoy, decides the shape, and inserts text into the user's YAML.
package inject

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
)

// Report says what happened to one workload, or to a document that was passed over.
type Report struct {
	Object *manifest.Object // nil where the document holds none
	Line   int
	Plan   *Plan  // nil when it was left alone
	Left   string // why it was left alone
	Passed bool   // it makes pods, or may, but drainctl cannot edit it
}

// File injects the agent into every workload of one file. What an earlier run put there is taken out first, so that a
// second run changes nothing and a run with other options replaces it; only the token is kept. The error joins all
// problems; then there is no text, unless [Options.KeepGoing]: then the documents with problems stay as they are.
func File(name string, text []byte, o Options) ([]byte, []Report, error) {
	original, injected, err := manifest.Restore(text)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	var tokens map[string]string
	if injected {
		tokens = tokensOf(name, text)
	}
	docs, err := manifest.Parse(name, original)
	if err != nil && !o.KeepGoing {
		return nil, nil, err
	}
	objects := o.Beside
	if objects == nil {
		objects = manifest.Objects(docs)
	}
	var out bytes.Buffer
	var reports []Report
	errs := []error{err}
	changes := false
	for _, d := range docs {
		changed, done, err := document(d, objects, tokens, o)
		if err != nil {
			changed, done = d.Text, nil
		}
		changes = changes || !bytes.Equal(changed, d.Text)
		if d.Joined && changes { // what is no JSON any more needs a separator
			out.WriteString(manifest.Separator(out.Bytes()))
		}
		out.Write(changed)
		reports = append(reports, done...)
		errs = append(errs, err)
	}
	err = errors.Join(errs...)
	if err != nil && !o.KeepGoing {
		return nil, nil, err
	}
	if broken := check(name, original, out.Bytes(), reports); broken != nil {
		return nil, nil, errors.Join(err, broken)
	}
	return out.Bytes(), reports, err
}

// check proves on the result that it can be taken back and that every pod has its agent.
func check(name string, original, result []byte, reports []Report) error {
	if back, _, err := manifest.Restore(result); err != nil || !bytes.Equal(back, original) {
		return fmt.Errorf("%s: this text cannot be edited so that the edit can be taken back (%v); nothing was changed", name, err)
	}
	if bytes.Equal(original, result) {
		return nil
	}
	docs, err := manifest.Parse(name, result)
	before, was := manifest.Parse(name, original)
	if err != nil && was == nil || len(docs) != len(before) {
		return fmt.Errorf("%s: the text that would come out is not valid, so nothing was changed: %w", name, cmp.Or(err, errors.New("documents would run together")))
	}
	have, want := 0, 0
	for _, o := range manifest.Objects(docs) {
		if o.Workload != nil && o.Workload.Container(AgentContainer) != nil {
			have++
		}
	}
	for _, r := range reports {
		if r.Plan != nil || r.Left == ownAgent {
			want++
		}
	}
	if have != want {
		return fmt.Errorf("%s: %d of %d pods would have their agent, so nothing was changed: write the pod templates as plain blocks", name, have, want)
	}
	return nil
}

const ownAgent = "has a container " + AgentContainer + " that drainctl did not write"

// tokensOf returns the tokens that an injected file has, by workload.
func tokensOf(name string, text []byte) map[string]string {
	tokens := map[string]string{}
	docs, _ := manifest.Parse(name, text) // what cannot be read has no token; the caller parses the original and reports
	for _, o := range manifest.Objects(docs) {
		if o.Workload != nil && o.Workload.Pod.Annotations[TokenAnnotation] != "" {
			tokens[key(o)] = o.Workload.Pod.Annotations[TokenAnnotation]
		}
	}
	return tokens
}

func key(o *manifest.Object) string { return o.Kind + "/" + o.Namespace + "/" + o.Called() }

// directive tells kustomize what the editor knows by itself.
var directive = regexp.MustCompile(`(?m)^ *\$patch:.*\n`)

func document(d *manifest.Document, objects []*manifest.Object, tokens map[string]string, o Options) ([]byte, []Report, error) {
	editor := manifest.NewEditor(d)
	var reports []Report
	if d.Passed != "" && len(d.Objects) == 0 {
		reports = append(reports, Report{Line: d.Line, Left: d.Passed, Passed: d.Makes})
	}
	for _, object := range d.Objects {
		w := object.Workload
		report := Report{Object: object, Line: d.LineOf(object.Node)}
		if w == nil && object.Passed == "" {
			continue
		}
		report.Left = o.Choice.leaves(object, objects)
		switch {
		case report.Left != "":
		case w == nil:
			report.Left, report.Passed = object.Passed, true
		case w.Container(AgentContainer) != nil:
			report.Left = ownAgent
		case agentOf(w) != nil:
			report.Left = "its container " + agentOf(w).Name + " is a drain-agent"
		}
		if report.Left != "" {
			reports = append(reports, report)
			continue
		}
		own, problems := o.For(w, objects)
		if len(problems) > 0 && !o.Lenient {
			key, _, _ := strings.Cut(problems[0], ":")
			return nil, nil, d.At(cmp.Or(manifest.FindDeep(w.Template, key), w.Template), "%s %s: annotations that cannot be read: %s", w.Kind, w.Called(), strings.Join(problems, "; "))
		}
		if own.Token == "" {
			own.Token = tokens[key(object)]
		}
		if own.Token == "" {
			own.Token = rand.Text()
		}
		p, left, err := NewPlan(w, objects, own)
		if err != nil {
			return nil, nil, d.At(w.Template, "%s %s: %w", w.Kind, w.Called(), err)
		}
		if p == nil {
			report.Left = left
			reports = append(reports, report)
			continue
		}
		var patch yaml.Node
		if err := yaml.Unmarshal([]byte(directive.ReplaceAllString(p.podPatch(w, false), "")), &patch); err != nil {
			return nil, nil, d.At(w.Template, "%s %s: the patch for it: %w", w.Kind, w.Called(), err)
		}
		editor.Merge(w.Template, patch.Content[0], w.Kind+" "+w.Called())
		for _, problem := range problems {
			p.note("annotation without effect: " + problem)
		}
		report.Plan = p
		reports = append(reports, report)
	}
	text, err := editor.Apply()
	return text, reports, err
}

// annotations are the pod's: the token, and what the mesh must know.
func (p *Plan) annotations(w *manifest.Workload) [][2]string {
	var keys [][2]string
	if p.Token != "" {
		keys = append(keys, [2]string{TokenAnnotation, p.Token})
	}
	if p.Report != "" && p.ReportCA != "" {
		keys = append(keys, [2]string{ReportCA, p.ReportCA})
	}
	return append(keys, p.meshAnnotations(w)...)
}
