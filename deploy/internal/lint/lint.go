// Package lint finds what will hurt a pod's start or stop, in manifests, before they are applied.
package lint

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
)

// Severity says how much a finding hurts.
type Severity int

// Severities, from the least.
const (
	Advice  Severity = iota // a practice that is missing
	Warning                 // hurts under some conditions
	Error                   // hurts at the next rollout
)

func (s Severity) String() string { return [...]string{"advice", "warning", "error"}[s] }

// MarshalText writes the severity as its name.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// ParseSeverity reads a severity's name.
func ParseSeverity(name string) (Severity, error) {
	for s := Advice; s <= Error; s++ {
		if s.String() == name {
			return s, nil
		}
	}
	return 0, fmt.Errorf("unknown severity %q; write advice, warning or error", name)
}

// Rule is one thing that lint knows.
type Rule struct {
	ID       string
	Severity Severity
	Why      string // what happens, in one sentence
	Fix      string
	check    func(s *set, o *manifest.Object, hit hitFunc)
}

// hitFunc reports a breach: the node that shows it (nil: the whole object) and what was seen.
type hitFunc func(at *yaml.Node, format string, args ...any)

// Docs is the page that explains the rules, where everybody can read it; a rule's anchor is its id.
const Docs = "https://github.com/drain-agent/drain-agent/blob/main/docs/reference/lint-rules.md"

// Finding is one breach of a rule. Its JSON is what lint -o json writes.
type Finding struct {
	Rule      string   `json:"rule"`
	Severity  Severity `json:"severity"`
	File      string   `json:"file"`
	Line      int      `json:"line"`
	Object    string   `json:"object"`
	Namespace string   `json:"namespace"`
	Message   string   `json:"message"`
	Why       string   `json:"why"`
	Fix       string   `json:"fix"`
	Docs      string   `json:"docs"`
}

// Report is what a run found.
type Report struct {
	Findings  []Finding
	Silenced  []Finding // somebody gave a reason not to say these
	Workloads []Finding // the workloads that were judged; only their places are filled in
	Unjudged  []Finding // objects that make pods which nobody sees here; their places, and why
}

// Run finds every breach of every rule; no silence counts.
func Run(docs []*manifest.Document) []Finding {
	report := Judge(docs, nil)
	return append(report.Findings, report.Silenced...)
}

// Judge checks all documents together: a Service, a PodDisruptionBudget or a PeerAuthentication is judged with the pods that
// it selects. Findings stand in the order of files, objects and lines.
func Judge(docs []*manifest.Document, silences []Silence) Report {
	return JudgeBeside(docs, silences, func(*manifest.Object) Stops { return Stops{} })
}

// JudgeBeside is Judge beside recorded stops: recorded returns those of a workload.
func JudgeBeside(docs []*manifest.Document, silences []Silence, recorded func(*manifest.Object) Stops) Report {
	s := newSet(docs)
	s.recorded = recorded
	var r Report
	for _, o := range s.objects {
		if s.pods[o] != nil {
			r.Workloads = append(r.Workloads, place(o, o.Node))
		} else if o.Passed != "" {
			f := place(o, o.Node)
			f.Message = o.Passed
			r.Unjudged = append(r.Unjudged, f)
		}
		var found []Finding
		for _, rule := range Rules() {
			rule.check(s, o, func(at *yaml.Node, format string, args ...any) {
				f := place(o, cmp.Or(at, o.Node))
				f.Rule, f.Severity, f.Why, f.Fix, f.Docs = rule.ID, rule.Severity, rule.Why, rule.Fix, Docs+"#"+rule.ID
				f.Message = fmt.Sprintf(format, args...)
				found = append(found, f)
			})
		}
		slices.SortStableFunc(found, func(a, b Finding) int {
			return cmp.Or(cmp.Compare(a.Line, b.Line), -cmp.Compare(a.Severity, b.Severity))
		})
		for _, f := range found {
			if silenced(s, o, f, silences) {
				r.Silenced = append(r.Silenced, f)
			} else {
				r.Findings = append(r.Findings, f)
			}
		}
	}
	return r
}

// Stops is what is recorded of the stops of a workload.
type Stops struct {
	N        int           // 0: nothing is recorded
	Longest  time.Duration // with what the agent keeps free for its stages and its margin
	CutShort bool          // the longest was ended before it was done: it needed longer
}

func place(o *manifest.Object, at *yaml.Node) Finding {
	return Finding{File: o.Doc.File, Line: o.Doc.LineOf(at), Object: o.Kind + " " + o.Called(), Namespace: o.Namespace}
}
