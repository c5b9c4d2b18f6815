package lint

import (
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/drain-agent/drain-agent/agent/budget"
	"github.com/drain-agent/drain-agent/deploy/internal/inject"
	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
	"github.com/drain-agent/drain-agent/deploy/internal/roles"
)

// set is everything that is judged together.
type set struct {
	objects  []*manifest.Object
	pods     map[*manifest.Object]*pod
	recorded func(*manifest.Object) Stops
}

// pod is a workload with what the rules ask of it again and again.
type pod struct {
	*manifest.Workload
	spec    *corev1.PodSpec
	agent   *corev1.Container // nil without drain-agent
	args    []string          // the agent's
	policy  *budget.Policy    // of those; nil without an agent, or where they cannot be read
	native  bool              // the agent is a native sidecar
	proxy   roles.Envoy       // its name is "" when a mesh adds it at admission, or when there is none
	roles   map[string]roles.Role
	longest time.Duration // what people say that the longest request takes; 0: nobody does
	job     bool          // the pod ends by itself when its work is done
	low     int32         // the least number of pods: an autoscaler's, where there is one
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
	settings, _ := inject.Options{}.For(w, objects)
	found := w.Roles(objects, settings.Proxy, nil)
	ends := roles.Input{Pod: w.Pod, Job: w.Job()}
	p := &pod{Workload: w, spec: &w.Pod.Spec, job: ends.Ends(), agent: w.Named(inject.AgentContainer), proxy: found.Envoy, roles: map[string]roles.Role{}, longest: settings.Longest, low: lowest(w, objects)}
	for _, c := range found.Containers {
		p.roles[c.Name] = c.Role
	}
	p.native = slices.Contains(w.Sidecars(), p.agent)
	if p.agent != nil {
		p.args = slices.Concat(p.agent.Command, p.agent.Args)
		if policy, err := budget.FromArgs(p.args); err == nil {
			p.policy = &policy
		}
	}
	return p
}

// is reports whether a container has one of these roles.
func (p *pod) is(c *corev1.Container, any ...roles.Role) bool {
	return slices.Contains(any, p.roles[c.Name])
}

// gateway reports whether the pod's Envoy is the app itself, with nobody behind it in the pod.
func (p *pod) gateway() bool {
	return p.proxy.Container != "" && !slices.ContainsFunc(p.lasting(), func(c *corev1.Container) bool { return p.is(c, roles.Serving, roles.Worker) })
}

// lowest is the least number of pods that a workload has: what an autoscaler keeps, else what the workload says.
func lowest(w *manifest.Workload, objects []*manifest.Object) int32 {
	for _, o := range objects {
		least, known := map[string]string{"HorizontalPodAutoscaler": "minReplicas", "ScaledObject": "minReplicaCount"}[o.Kind]
		target, _ := o.Spec()["scaleTargetRef"].(map[string]any)
		if !known || o.Namespace != w.Namespace || target["name"] != w.Name || target["kind"] != nil && target["kind"] != w.Kind {
			continue
		}
		if n, said := o.Spec()[least].(int); said {
			return int32(min(max(n, 0), 1<<30)) // bounded
		}
		if o.Kind == "ScaledObject" {
			return 0 // KEDA's default
		}
		return 1
	}
	return w.Replicas
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
	return slices.DeleteFunc(slices.Clone(s.objects), func(o *manifest.Object) bool { return len(servicePorts(p.Workload, o)) == 0 })
}
