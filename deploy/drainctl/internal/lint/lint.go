// Package lint finds what will hurt a pod's start or stop, in manifests, before they are applied.
package lint

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/drain-agent/drain-agent/agent/budget"
	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/inject"
	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/manifest"
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

// Docs is the page that explains the rules; a rule's anchor is its id.
const Docs = "docs/reference/lint-rules.md"

// Finding is one breach of a rule. Its JSON is what lint -o json writes.
type Finding struct {
	Rule     string   `json:"rule"`
	Severity Severity `json:"severity"`
	File     string   `json:"file"`
	Line     int      `json:"line"`
	Object   string   `json:"object"`
	Message  string   `json:"message"`
	Why      string   `json:"why"`
	Fix      string   `json:"fix"`
	Docs     string   `json:"docs"`
}

// Run checks all documents together: a Service, a PodDisruptionBudget or a PeerAuthentication is judged with the pods that
// it selects. Findings stand in the order of files and lines.
func Run(docs []*manifest.Document) []Finding {
	s := newSet(docs)
	var found []Finding
	for _, rule := range Rules() {
		for _, o := range s.objects {
			rule.check(s, o, func(at *yaml.Node, format string, args ...any) {
				if at == nil {
					at = o.Node
				}
				found = append(found, Finding{
					Rule: rule.ID, Severity: rule.Severity, File: o.Doc.File, Line: o.Doc.LineOf(at), Object: o.Kind + " " + o.Name,
					Message: fmt.Sprintf(format, args...), Why: rule.Why, Fix: rule.Fix, Docs: Docs + "#" + rule.ID,
				})
			})
		}
	}
	slices.SortStableFunc(found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), -cmp.Compare(a.Severity, b.Severity))
	})
	return found
}

// set is everything that is judged together.
type set struct {
	objects []*manifest.Object
	pods    map[*manifest.Object]*pod
}

// pod is a workload with what the rules ask of it again and again.
type pod struct {
	*manifest.Workload
	spec   *corev1.PodSpec
	agent  *corev1.Container // nil without drain-agent
	args   []string          // the agent's
	policy *budget.Policy    // of those; nil without an agent, or where they cannot be read
	native bool              // the agent is a native sidecar
	proxy  inject.Proxy
	job    bool
}

// grace is the pod's grace period; Kubernetes' 30 s where nothing is said.
func (p *pod) grace() time.Duration {
	if g := p.spec.TerminationGracePeriodSeconds; g != nil {
		return time.Duration(*g) * time.Second
	}
	return 30 * time.Second
}

func (p *pod) graceNode() *yaml.Node {
	return manifest.Find(p.Template, "spec", "terminationGracePeriodSeconds")
}

func newSet(docs []*manifest.Document) *set {
	s := &set{objects: manifest.Objects(docs), pods: map[*manifest.Object]*pod{}}
	for _, o := range s.objects {
		if o.Workload != nil {
			s.pods[o] = newPod(o.Workload, s.objects)
		}
	}
	return s
}

func newPod(w *manifest.Workload, objects []*manifest.Object) *pod {
	p := &pod{Workload: w, spec: &w.Pod.Spec, job: w.Job(), agent: w.Named(inject.AgentContainer)}
	p.native = slices.Contains(w.Sidecars(), p.agent)
	if p.agent != nil {
		p.args = slices.Concat(p.agent.Command, p.agent.Args)
		if policy, err := budget.FromArgs(p.args); err == nil {
			p.policy = &policy
		}
	}
	p.proxy, _ = inject.FindProxy(w, "auto", objects) // a pod without Envoy is a pod without Envoy
	return p
}

// flag is a flag of the pod's agent.
func (p *pod) flag(name string) string { v, _ := budget.Flag(p.args, name); return v }

// regular returns the regular containers without the agent.
func (p *pod) regular() []*corev1.Container {
	return slices.DeleteFunc(p.Regular(), func(c *corev1.Container) bool { return c == p.agent })
}

// lasting returns every container that runs as long as the pod.
func (p *pod) lasting() []*corev1.Container { return slices.Concat(p.Sidecars(), p.Regular()) }

// agentName is what the agent calls a container.
func (p *pod) agentName(container string) string {
	if h := hookOf(p.Named(container)); h != nil && h.HTTPGet != nil {
		if name, ok := strings.CutPrefix(h.HTTPGet.Path, "/prestop/"); ok {
			return name
		}
	}
	if container == p.proxy.Container {
		return budget.ProxyName
	}
	return container
}

func hookOf(c *corev1.Container) *corev1.LifecycleHandler {
	if c.Lifecycle == nil {
		return nil
	}
	return c.Lifecycle.PreStop
}

// pods makes a check of workloads.
func pods(check func(s *set, p *pod, hit hitFunc)) func(*set, *manifest.Object, hitFunc) {
	return func(s *set, o *manifest.Object, hit hitFunc) {
		if p := s.pods[o]; p != nil {
			check(s, p, hit)
		}
	}
}

// each makes a check of every container that runs as long as its pod.
func each(check func(p *pod, c *corev1.Container, hit hitFunc)) func(*set, *manifest.Object, hitFunc) {
	return pods(func(_ *set, p *pod, hit hitFunc) {
		for _, c := range p.lasting() {
			check(p, c, func(at *yaml.Node, format string, args ...any) {
				if at == nil {
					at = p.Container(c.Name)
				}
				hit(at, "container "+c.Name+": "+format, args...)
			})
		}
	})
}

// hooks makes a check of every HTTP hook; it returns what is wrong, or "".
func hooks(check func(p *pod, c *corev1.Container, get *corev1.HTTPGetAction) string) func(*set, *manifest.Object, hitFunc) {
	return each(func(p *pod, c *corev1.Container, hit hitFunc) {
		if h := hookOf(c); h != nil && h.HTTPGet != nil {
			if said := check(p, c, h.HTTPGet); said != "" {
				hit(manifest.Find(p.Container(c.Name), "lifecycle", "preStop"), "%s", said)
			}
		}
	})
}

// kind makes a check of objects of one kind.
func kind(name string, check func(s *set, o *manifest.Object, hit hitFunc)) func(*set, *manifest.Object, hitFunc) {
	return func(s *set, o *manifest.Object, hit hitFunc) {
		if o.Kind == name {
			check(s, o, hit)
		}
	}
}

// selected returns the pods in a namespace that a label selector chooses.
func (s *set) selected(namespace string, selector *metav1.LabelSelector) []*pod {
	chosen, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return nil
	}
	var out []*pod
	for _, o := range s.objects {
		if p := s.pods[o]; p != nil && o.Namespace == namespace && chosen.Matches(labels.Set(p.Pod.Labels)) {
			out = append(out, p)
		}
	}
	return out
}

// services returns the Services that send traffic to a pod.
func (s *set) services(p *pod) []*manifest.Object {
	var out []*manifest.Object
	for _, o := range s.objects {
		var service corev1.Service
		if o.Kind != "Service" || o.Namespace != p.Namespace || o.Into(&service) != nil || len(service.Spec.Selector) == 0 {
			continue
		}
		if labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(p.Pod.Labels)) {
			out = append(out, o)
		}
	}
	return out
}
