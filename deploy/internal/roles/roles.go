// Package roles says what each container of a pod is for: proxy, serving, worker, dependency, helper or agent. It judges by
// evidence that a person could check: image references, commands, arguments, ports, the Envoy configuration beside the pod, the
// annotations of pod, namespace and mesh. Where evidence is missing it asks; it never takes the first container for the app.
package roles

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Role is what a container is for.
type Role string

// The roles. Default order of a stop: serving and workers, then dependencies, then the proxy, then the agent.
const (
	Proxy      Role = "proxy"      // an Envoy
	Serving    Role = "serving"    // answers requests, from the proxy or from outside
	Worker     Role = "worker"     // fetches its work by itself, or is the work of a Job
	Dependency Role = "dependency" // others need it while they stop: database proxies, authorization, collectors
	Helper     Role = "helper"     // nobody needs it while the pod stops: no hook, no place in the order
	Agent      Role = "agent"      // drain-agent itself
)

// Confidence says how far a role may be relied on.
type Confidence string

// The confidences. Unsure is a question to the user: see [Pod.Questions].
const (
	High   Confidence = "high"   // a table with sources, a configuration that was read, or the user's word
	Likely Confidence = "likely" // the usual reading of what is there; say it to the user and go on
	Unsure Confidence = "unsure" // two readings are possible and would stop the pod differently
)

// Annotation of the pod with which a user says roles: "name=role,name=role".
const Annotation = "drain-agent.io/roles"

// InjectAnnotation with the value "false", on a pod or workload, keeps the agent out.
const InjectAnnotation = "drain-agent.io/inject"

// Input is a pod and what stands beside it. Only Pod is needed.
type Input struct {
	Pod   corev1.PodTemplateSpec
	Job   bool            // the pod belongs to a Job or CronJob
	Roles map[string]Role // by container, said by the user; they outrank all evidence
	Proxy string          // the user's word for the proxy: "" or auto, none, istio, consul, kuma, or a container's name
	Neighbours
}

// Neighbours are the objects beside a pod that tell something of its roles. All may be empty.
type Neighbours struct {
	NamespaceLabels      map[string]string
	NamespaceAnnotations map[string]string
	ConfigMaps           map[string]map[string]string // data, by name, of the pod's namespace
	TargetPorts          []intstr.IntOrString         // of the Services that select the pod
	MeshConfigs          []string                     // texts of Istio's mesh configuration (ConfigMap istio, IstioOperator)
}

// Container is one container with its role. Init containers that end are not among them.
type Container struct {
	Name       string
	Role       Role
	Confidence Confidence
	Evidence   string // one sentence, without the container's name
	Native     bool   // a native sidecar
	Port       int32  // where it serves; 0 where nothing says it
	Shutdown   bool   // a gateway's shutdown manager, which drains Envoy in its own way
}

// Pod is what was found.
type Pod struct {
	Containers []Container // native sidecars in init order, then regular containers
	Envoy      Envoy
	Questions  []string // one for each role that nobody can tell, with the flag and the annotation that answer it
}

// Ends reports whether the pods end by themselves when their work is done.
func (in *Input) Ends() bool {
	return in.Job || in.Pod.Spec.RestartPolicy == corev1.RestartPolicyNever || in.Pod.Spec.RestartPolicy == corev1.RestartPolicyOnFailure
}

// Named returns the container of that name.
func (p *Pod) Named(name string) (Container, bool) {
	i := slices.IndexFunc(p.Containers, func(c Container) bool { return c.Name == name })
	if i < 0 {
		return Container{}, false
	}
	return p.Containers[i], true
}

// Of returns the containers with one of these roles.
func (p *Pod) Of(roles ...Role) (out []Container) {
	for _, c := range p.Containers {
		if slices.Contains(roles, c.Role) {
			out = append(out, c)
		}
	}
	return out
}

// candidate is a container while its role is looked for.
type candidate struct {
	*corev1.Container
	native   bool
	image    image
	commands [][]string // what is run, word by word; a script's commands one by one
}

// Assign finds the role of every container.
func Assign(in Input) *Pod {
	p := &Pod{}
	all := in.candidates()
	said, problems := in.said(all)
	p.Questions = append(p.Questions, problems...)
	p.Envoy, problems = in.envoy(all, said)
	p.Questions = append(p.Questions, problems...)
	undecided := 0
	for _, c := range all {
		one := Container{Name: c.Name, Native: c.native, Shutdown: managesShutdown(c), Role: Serving, Confidence: Unsure}
		switch role, isSaid := said[c.Name]; {
		case isSaid:
			one.Role, one.Confidence, one.Evidence = role, High, "the user says so"
		case c.Name == p.Envoy.Container:
			one.Role, one.Confidence, one.Evidence = Proxy, p.Envoy.Confidence, p.Envoy.Why
		default:
			one.Role, one.Confidence, one.Evidence = in.known(c, p.Envoy)
		}
		if one.Role == "" {
			undecided++
		}
		p.Containers = append(p.Containers, one)
	}
	for i, c := range all {
		one := &p.Containers[i]
		if one.Role == "" {
			one.Role, one.Confidence, one.Evidence = in.work(c, p.Envoy, undecided)
		}
		if one.Role == Serving || one.Role == Worker {
			one.Port = in.servingPort(c, p.Envoy)
		}
		if one.Confidence == Unsure {
			p.Questions = append(p.Questions, fmt.Sprintf("container %s: %s; say --role=%s=serving, worker, dependency or helper, or annotate the pod with %s: %s=…",
				c.Name, one.Evidence, c.Name, Annotation, c.Name))
		}
	}
	return p
}

func (in *Input) candidates() (all []candidate) {
	add := func(c *corev1.Container, native bool) {
		all = append(all, candidate{Container: c, native: native, image: parseImage(c.Image), commands: commandsOf(c)})
	}
	for i := range in.Pod.Spec.InitContainers {
		c := &in.Pod.Spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			add(c, true)
		}
	}
	for i := range in.Pod.Spec.Containers {
		add(&in.Pod.Spec.Containers[i], false)
	}
	return all
}

// said collects what the user says, by flag and, where the flag is silent, by annotation.
func (in *Input) said(all []candidate) (map[string]Role, []string) {
	out := map[string]Role{}
	var problems []string
	for pair := range strings.FieldsFuncSeq(in.Pod.Annotations[Annotation], func(r rune) bool { return r == ',' || r == ' ' || r == '\n' }) {
		name, role, _ := strings.Cut(pair, "=")
		if parsed, err := ParseRole(role); err != nil {
			problems = append(problems, fmt.Sprintf("annotation %s: %s: %v", Annotation, pair, err))
		} else {
			out[name] = parsed
		}
	}
	maps.Copy(out, in.Roles)
	for name := range out {
		if !slices.ContainsFunc(all, func(c candidate) bool { return c.Name == name }) {
			if _, byFlag := in.Roles[name]; !byFlag { // a flag speaks to many pods
				problems = append(problems, fmt.Sprintf("annotation %s: the pod has no container %s", Annotation, name))
			}
			delete(out, name)
		}
	}
	slices.Sort(problems)
	return out, problems
}

// ParseRole reads a role that a user may give.
func ParseRole(text string) (Role, error) {
	for _, role := range []Role{Proxy, Serving, Worker, Dependency, Helper} {
		if text == string(role) {
			return role, nil
		}
	}
	return "", fmt.Errorf("%q is no role; write proxy, serving, worker, dependency or helper", text)
}
