package lint

import (
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"

	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/manifest"
)

func noResources(_ *pod, c *corev1.Container, hit hitFunc) {
	if c.Image == "auto" { // Istio's injector fills in the rest
		return
	}
	var missing []string
	if c.Resources.Requests.Cpu().IsZero() {
		missing = append(missing, "requests.cpu")
	}
	if c.Resources.Requests.Memory().IsZero() {
		missing = append(missing, "requests.memory")
	}
	if c.Resources.Limits.Memory().IsZero() {
		missing = append(missing, "limits.memory")
	}
	if len(missing) > 0 {
		hit(nil, "no %s", strings.Join(missing, ", "))
	}
}

// replicated reports whether a workload keeps several pods that serve.
func (p *pod) replicated() bool { return p.Replicas > 1 }

func budgets(s *set) []policyv1.PodDisruptionBudget {
	var out []policyv1.PodDisruptionBudget
	for _, o := range s.objects {
		var one policyv1.PodDisruptionBudget
		if o.Kind == "PodDisruptionBudget" && o.Into(&one) == nil {
			one.Namespace = o.Namespace
			out = append(out, one)
		}
	}
	return out
}

func noBudget(s *set, p *pod, hit hitFunc) {
	covered := slices.ContainsFunc(budgets(s), func(b policyv1.PodDisruptionBudget) bool {
		return b.Spec.Selector != nil && slices.Contains(s.selected(b.Namespace, b.Spec.Selector), p)
	})
	if p.replicated() && !covered {
		hit(nil, "no PodDisruptionBudget in these files selects its pods")
	}
}

func budgetBlocks(s *set, o *manifest.Object, hit hitFunc) {
	var b policyv1.PodDisruptionBudget
	if o.Into(&b) != nil || b.Spec.Selector == nil {
		return
	}
	if m := b.Spec.MaxUnavailable; m != nil && (m.StrVal == "0%" || m.StrVal == "" && m.IntVal == 0) {
		hit(manifest.Find(o.Node, "spec", "maxUnavailable"), "maxUnavailable %s allows no eviction", m.String())
	}
	if m := b.Spec.MinAvailable; m != nil {
		replicas := int32(0)
		for _, p := range s.selected(o.Namespace, b.Spec.Selector) {
			replicas += p.Replicas
		}
		percent, err := strconv.Atoi(strings.TrimSuffix(m.StrVal, "%"))
		if err == nil && percent >= 100 || m.StrVal == "" && replicas > 0 && m.IntVal >= replicas {
			hit(manifest.Find(o.Node, "spec", "minAvailable"), "minAvailable %s of %d replicas allows no eviction", m.String(), replicas)
		}
	}
}

func noSpread(_ *set, p *pod, hit hitFunc) {
	if !p.replicated() || len(p.spec.TopologySpreadConstraints) > 0 || p.spec.Affinity != nil && p.spec.Affinity.PodAntiAffinity != nil {
		return
	}
	hit(manifest.Find(p.Template, "spec"), "nothing keeps the %d replicas on different nodes", p.Replicas)
}

func singleReplica(_ *set, p *pod, hit hitFunc) {
	if p.Replicas != 1 || len(p.regular()) == 0 {
		return
	}
	hit(manifest.Find(p.Node, "spec", "replicas"), "one replica: while it stops nobody serves, and its probes must not fail early")
}
