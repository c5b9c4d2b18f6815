package inject

import (
	"cmp"
	"crypto/rand"
	"fmt"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
)

// State says what became of a pod at admission.
type State string

// The states. Only Refused is somebody's to mend.
const (
	Injected State = "injected"
	Already  State = "already" // it has an agent: drainctl inject, or this webhook, was here before
	OptedOut State = "opted_out"
	NoEnvoy  State = "no_envoy"
	Waiting  State = "waiting" // a mesh has still to add its Envoy; Kubernetes then calls again
	Refused  State = "refused" // an agent was asked for and cannot be added
)

// Outcome is what became of a pod at admission.
type Outcome struct {
	State State
	Why   string      // why it was left alone; "" when it was not
	Plan  *Plan       // of an injected pod
	Patch []Operation // what makes it one

	Problems []string // annotations that have no effect
}

// agentOf returns the agent that a pod has, of whatever edition and name; nil where there is none.
func agentOf(w *manifest.Workload) *corev1.Container {
	if c := w.Named(AgentContainer); c != nil {
		return c
	}
	if names := manifest.Agents(&w.Pod.Spec); len(names) > 0 {
		return w.Named(names[0])
	}
	return nil
}

// Pod decides about a pod as the API server has it, by the same plan as [File]. Where the mesh's proxy has still to come the pod is
// left alone: Kubernetes calls again once the mesh has changed it, and then there is nothing to assume.
func Pod(w *manifest.Workload, objects []*manifest.Object, o Options) Outcome {
	if why := o.Choice.leaves(w.Object, objects); why != "" {
		return Outcome{State: OptedOut, Why: why}
	}
	if c := agentOf(w); c != nil {
		return Outcome{State: Already, Why: "has an agent, which stays as it is: container " + c.Name + ", image " + c.Image}
	}
	if w.Pod.Annotations[corev1.MirrorPodAnnotationKey] != "" {
		return Outcome{State: Refused, Why: "a static pod is what its node's file says: drainctl inject edits that file"}
	}
	o, problems := o.For(w, objects)
	if envoy := w.Roles(objects, o.Proxy, o.said(w)).Envoy; proxyToCome(w, envoy) {
		return Outcome{State: Waiting, Why: fmt.Sprintf("%s has still to add its Envoy (%s)", cmp.Or(envoy.Mesh, "a mesh"), envoy.Why)}
	}
	if w.Pod.Spec.ServiceAccountName == "" { // Kubernetes refuses a pod that asks for the token of no account
		o.Report = ""
	}
	o.Token = cmp.Or(o.Token, rand.Text())
	p, left, err := NewPlan(w, objects, o)
	switch {
	case err != nil:
		return Outcome{State: Refused, Why: err.Error(), Problems: problems}
	case p == nil:
		return Outcome{State: NoEnvoy, Why: left}
	}
	var patch map[string]any
	if err := yaml.Unmarshal([]byte(p.podPatch(w, true)), &patch); err != nil {
		return Outcome{State: Refused, Why: "the patch for it: " + err.Error()}
	}
	out := Outcome{State: Injected, Plan: p, Problems: problems}
	merge(&out.Patch, "", w.Value, patch)
	return out
}
