// Package inject adds the agent to pods: it finds the Envoy, decides the shape, and inserts text into the user's YAML.
package inject

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
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
	var tokens map[string]string
	if injected {
		tokens = tokensOf(name, text)
	}
	docs, err := manifest.Parse(name, original)
	if err != nil {
		return nil, nil, err
	}
	objects := manifest.Objects(docs)
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
	for _, o := range manifest.Objects(docs) {
		if o.Workload != nil && o.Workload.Container(AgentContainer) != nil {
			have++
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
	for _, o := range manifest.Objects(docs) {
		if o.Workload != nil && o.Workload.Pod.Annotations[TokenAnnotation] != "" {
			tokens[key(o)] = o.Workload.Pod.Annotations[TokenAnnotation]
		}
	}
	return tokens
}

func key(o *manifest.Object) string { return o.Kind + "/" + o.Namespace + "/" + o.Name }

// directive tells kustomize what the editor knows by itself.
var directive = regexp.MustCompile(`(?m)^ *\$patch:.*\n`)

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
		var patch yaml.Node
		if err := yaml.Unmarshal([]byte(directive.ReplaceAllString(p.podPatch(w), "")), &patch); err != nil {
			return nil, nil, d.At(w.Template, "%s %s: the patch for it: %w", w.Kind, w.Name, err)
		}
		editor.Merge(w.Template, patch.Content[0], w.Kind+" "+w.Name)
		reports = append(reports, Report{Workload: w, Plan: p})
	}
	text, err := editor.Apply()
	return text, reports, err
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
