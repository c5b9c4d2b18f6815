package lint

import (
	"cmp"
	"path"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/drain-agent/drain-agent/agent/budget"
	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/inject"
	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/manifest"
)

func agentArguments(_ *set, p *pod, hit hitFunc) {
	if p.agent == nil || len(p.agent.Command) > 0 && path.Base(p.agent.Command[0]) != "drain-agent" {
		return
	}
	environment := map[string]string{}
	for _, one := range p.agent.Env {
		environment[one.Name] = one.Value
		if one.ValueFrom != nil {
			environment[one.Name] = "$(" + one.Name + ")" // not to be seen here
		}
	}
	for _, problem := range budget.Problems(p.args[min(len(p.agent.Command), 1):], environment) {
		hit(p.Container(inject.AgentContainer), "%s", problem)
	}
}

func agentImage(_ *set, p *pod, hit hitFunc) {
	if p.agent == nil {
		return
	}
	if _, tag, _ := strings.Cut(path.Base(p.agent.Image), ":"); tag == "" || tag == "latest" {
		hit(manifest.Find(p.Container(inject.AgentContainer), "image"), "image %s names no version", p.agent.Image)
	}
}

// waitsForLater finds an agent whose own startup probe waits for a proxy that kubelet starts only afterwards.
func waitsForLater(_ *set, p *pod, hit hitFunc) {
	if p.agent == nil || !p.native || p.agent.StartupProbe == nil || p.proxy.Container == "" {
		return
	}
	at := func(name string) int {
		return slices.IndexFunc(p.Containers(), func(c *corev1.Container) bool { return c.Name == name }) // in the order of their start
	}
	asks := asked(p.agent.StartupProbe)
	if at(p.proxy.Container) > at(inject.AgentContainer) && (strings.HasSuffix(asks, "/startupz/proxy") || strings.Contains(asks, "drain-agent wait")) {
		hit(manifest.Find(p.Container(inject.AgentContainer), "startupProbe"), "the agent's startup probe waits for the proxy %s, which stands after it", p.proxy.Container)
	}
}

// strategyTakesAll reads a strategy as the Deployment controller does: 25 % each where nothing is said, maxUnavailable
// rounded down, maxSurge up, and one pod may go where both come to none (ResolveFenceposts in kubernetes' deployment_util.go).
func strategyTakesAll(_ *set, p *pod, hit hitFunc) {
	var d appsv1.Deployment
	if p.agent == nil || p.Kind != "Deployment" || p.Replicas == 0 || p.Into(&d) != nil {
		return
	}
	at := manifest.Find(p.Node, "spec", "strategy")
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		hit(at, "Recreate ends every pod before a new one starts")
		return
	}
	rolling, quarter := cmp.Or(d.Spec.Strategy.RollingUpdate, &appsv1.RollingUpdateDeployment{}), new(intstr.FromString("25%"))
	surge, err := intstr.GetScaledValueFromIntOrPercent(cmp.Or(rolling.MaxSurge, quarter), int(p.Replicas), true)
	unavailable, err2 := intstr.GetScaledValueFromIntOrPercent(cmp.Or(rolling.MaxUnavailable, quarter), int(p.Replicas), false)
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	if cmp.Or(err, err2) == nil && unavailable >= int(p.Replicas) {
		hit(at, "maxUnavailable lets %[1]d of %[1]d replicas go before a new one is ready", p.Replicas)
	}
}
