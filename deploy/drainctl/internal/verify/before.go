package verify

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/drain-agent/drain-agent/agent/budget"
	"github.com/drain-agent/drain-agent/deploy/internal/inject"
)

// before judges whether a rollout can and may be started, from what is there. An error among the findings forbids it.
func before(w *workload, pods []corev1.Pod, beside []*unstructured.Unstructured) (found []Finding) {
	add := func(f Finding) { found = append(found, f) }
	if w.want() == 0 {
		add(Finding{Error, "no-pods", "", w.target.String() + " wants no pods: there is nothing to replace", "scale it up first"})
	}
	if w.Spec.Paused {
		add(Finding{Error, "paused", "", w.target.String() + " is paused: a rollout would not begin", w.target.kubectl("resume")})
	}
	if w.strategy().Type == "OnDelete" {
		add(Finding{Error, "on-delete", "", "the update strategy is OnDelete: a rollout replaces nobody until somebody deletes pods", "write type: RollingUpdate, or delete a pod by hand and read its verdict: drainctl timeline -f"})
	}
	if len(pods) > 0 && !slices.ContainsFunc(pods, func(p corev1.Pod) bool { return w.goes(&p) }) {
		add(Finding{Error, "partition", "", "the partition of the update strategy keeps every pod: a rollout would replace none", "lower spec.updateStrategy.rollingUpdate.partition"})
	}
	if under := notSettled(w, pods); under != "" {
		add(Finding{Error, "not-settled", "", under, "wait until it is over, or mend it: " + w.target.kubectl("status")})
	}
	return slices.Concat(found, agents(pods), gaps(w, beside))
}

// notSettled says why a rollout of ours would not be alone.
func notSettled(w *workload, pods []corev1.Pod) string {
	var ready, going, not []string
	for _, p := range pods {
		switch {
		case p.DeletionTimestamp != nil:
			going = append(going, p.Name)
		case isReady(&p):
			ready = append(ready, p.Name)
		default:
			not = append(not, p.Name+" ("+whyNotReady(&p)+")")
		}
	}
	switch {
	case len(not) > 0:
		return "not every pod is ready before the rollout: " + strings.Join(not, ", ")
	case len(going) > 0:
		return "pods are on their way out already: " + strings.Join(going, ", ")
	case len(ready) < w.want():
		return fmt.Sprintf("%d of %d pods are ready before the rollout", len(ready), w.want())
	}
	return ""
}

func isReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// whyNotReady is the first thing that a pod's status complains of.
func whyNotReady(p *corev1.Pod) string {
	for _, s := range statuses(p) {
		switch {
		case s.State.Waiting != nil && s.State.Waiting.Reason != "PodInitializing" && s.State.Waiting.Reason != "ContainerCreating":
			return strings.TrimSuffix(fmt.Sprintf("container %s: %s: %s", s.Name, s.State.Waiting.Reason, s.State.Waiting.Message), ": ")
		case s.State.Terminated != nil && s.State.Terminated.ExitCode != 0:
			return fmt.Sprintf("container %s ended with exit code %d (%s)", s.Name, s.State.Terminated.ExitCode, s.State.Terminated.Reason)
		}
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return c.Reason + ": " + c.Message
		}
	}
	for _, s := range statuses(p) {
		if !s.Ready && s.State.Running != nil {
			return fmt.Sprintf("container %s runs and is not ready, restarts: %d", s.Name, s.RestartCount)
		}
	}
	return "phase " + string(p.Status.Phase)
}

func statuses(p *corev1.Pod) []corev1.ContainerStatus {
	return slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses)
}

// agentOf is the pod's agent; nil without one.
func agentOf(spec *corev1.PodSpec) *corev1.Container {
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		if c.Name == inject.AgentContainer {
			return &c
		}
	}
	return nil
}

// setting is a flag of the agent, or its twin in the environment; the flag outranks it.
func setting(c *corev1.Container, name string) string {
	if v, found := budget.Flag(slices.Concat(c.Command, c.Args), name); found {
		return v
	}
	twin := "DRAIN_AGENT_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
	for _, e := range c.Env {
		if e.Name == twin {
			return e.Value
		}
	}
	return ""
}

// agents judges the agents of running pods.
func agents(pods []corev1.Pod) (found []Finding) {
	without, observing := []string{}, []string{}
	for _, p := range pods {
		switch agent := agentOf(&p.Spec); {
		case agent == nil:
			without = append(without, p.Name)
		case setting(agent, "mode") == "observe":
			observing = append(observing, p.Name)
		}
	}
	if len(without) > 0 {
		found = append(found, Finding{
			Error, "no-agent", "", "no container " + inject.AgentContainer + " in " + strings.Join(without, ", ") + ": nothing holds these pods' stop, and nobody writes a verdict",
			"drainctl inject -f FILE -w, or the label " + inject.SettingPrefix + "inject: enabled where drain-controller runs, and roll it out",
		})
	}
	if len(observing) > 0 {
		found = append(found, Finding{
			Warning, "observe-mode", "", "the agent of " + strings.Join(observing, ", ") + " only observes: it holds no hook longer than today's sleep, verdicts say what was lost without it",
			"leave --mode=observe out when you have seen enough",
		})
	}
	return found
}

// gaps are what clients, or those who wrote a budget, would feel of the rollout itself.
func gaps(w *workload, beside []*unstructured.Unstructured) (found []Finding) {
	want, least := w.want(), w.least()
	if want > 0 && least == 0 {
		found = append(found, Finding{
			Error, "no-surge", "", fmt.Sprintf("%s has %d of %d pods at the worst moment of a rollout: until a new one is ready nobody serves", w.target, least, want),
			"run two replicas or more, in a Deployment with rollingUpdate: {maxSurge: 1, maxUnavailable: 0}; or accept the gap: --anyway",
		})
	}
	for _, o := range beside {
		switch o.GetKind() {
		case "PodDisruptionBudget":
			var b policyv1.PodDisruptionBudget
			if runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &b) != nil || b.Status.DisruptionsAllowed > 0 || want == 0 {
				continue
			}
			f := Finding{
				Note, "budget-forbids", "", fmt.Sprintf("PodDisruptionBudget %s allows no disruption now (%d healthy, %d wanted)", b.Name, b.Status.CurrentHealthy, b.Status.DesiredHealthy),
				"widen the budget, or run more replicas; or go on: --anyway",
			}
			switch {
			case w.target.Kind == "Rollout":
				f.Severity, f.Message = Error, f.Message+": Argo restarts by eviction, which it refuses"
			case least < want:
				f.Severity, f.Message = Error, f.Message+": the rollout would not ask it, and takes pods away"
			default:
				f.Message, f.Fix = f.Message+"; this rollout adds a pod before it takes one, so it is respected", ""
			}
			found = append(found, f)
		case "HorizontalPodAutoscaler":
			found = append(found, Finding{Note, "autoscaler", "", "HorizontalPodAutoscaler " + o.GetName() + " may add or remove pods meanwhile; those that it removes are judged too", ""})
		}
	}
	return found
}
