package lint

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
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
func (p *pod) replicated() bool { return max(p.low, p.Replicas) > 1 }

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

// budgetBlocks counts as the disruption controller does: percentages are rounded up, and of an autoscaler's pods the least
// number counts, because quiet hours are when nodes are drained.
func budgetBlocks(s *set, o *manifest.Object, hit hitFunc) {
	var b policyv1.PodDisruptionBudget
	if o.Into(&b) != nil || b.Spec.Selector == nil {
		return
	}
	replicas, known := 0, true
	for _, p := range s.selected(o.Namespace, b.Spec.Selector) {
		replicas += int(p.low)
		known = known && p.low > 0
	}
	known = known && replicas > 0
	if m := b.Spec.MaxUnavailable; m != nil && (m.StrVal == "0%" || m.StrVal == "" && m.IntVal == 0) {
		hit(manifest.Find(o.Node, "spec", "maxUnavailable"), "maxUnavailable %s allows no eviction", m.String())
	}
	if m := b.Spec.MinAvailable; m != nil {
		at := manifest.Find(o.Node, "spec", "minAvailable")
		if m.StrVal != "" && strings.TrimSuffix(m.StrVal, "%") == "100" {
			hit(at, "minAvailable 100%% allows no eviction")
			return
		}
		least, err := intstr.GetScaledValueFromIntOrPercent(m, replicas, true)
		if err == nil && known && least >= replicas {
			hit(at, "minAvailable %s of %d replicas allows no eviction", m.String(), replicas)
		}
	}
}

func noSpread(_ *set, p *pod, hit hitFunc) {
	if !p.replicated() || len(p.spec.TopologySpreadConstraints) > 0 || p.spec.Affinity != nil && p.spec.Affinity.PodAntiAffinity != nil {
		return
	}
	hit(manifest.Find(p.Template, "spec"), "nothing keeps the %d replicas on different nodes", max(p.low, p.Replicas))
}

func singleReplica(s *set, p *pod, hit hitFunc) {
	if p.low != 1 || len(s.serving(p)) == 0 {
		return
	}
	hit(manifest.Find(p.Node, "spec", "replicas"), "one replica: while it stops nobody serves, and its probes must not fail early")
}
