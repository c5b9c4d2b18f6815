package lint

import (
	"cmp"
	"path"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/drain-agent/drain-agent/agent/budget"
	"github.com/drain-agent/drain-agent/deploy/internal/inject"
	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
	"github.com/drain-agent/drain-agent/deploy/internal/roles"
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
// Recreate is somebody's decision; only who wants to lose nothing, with an agent, is told.
func strategyTakesAll(s *set, p *pod, hit hitFunc) {
	if p.agent == nil && len(s.serving(p)) == 0 {
		return
	}
	rolling, at := p.rolling()
	if rolling == nil {
		if p.agent != nil && at != nil {
			hit(at, "Recreate ends every pod before a new one starts")
		}
		return
	}
	replicas := int(max(p.low, p.Replicas))
	if p.Kind == "DaemonSet" {
		if rolling.MaxUnavailable != nil && rolling.MaxUnavailable.StrVal == "100%" {
			hit(at, "maxUnavailable 100%% lets the pods of all nodes go before a new one is ready")
		}
		return
	}
	quarter := new(intstr.FromString("25%"))
	surge, err := intstr.GetScaledValueFromIntOrPercent(cmp.Or(rolling.MaxSurge, quarter), replicas, true)
	unavailable, err2 := intstr.GetScaledValueFromIntOrPercent(cmp.Or(rolling.MaxUnavailable, quarter), replicas, false)
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	switch {
	case cmp.Or(err, err2) != nil || replicas == 0 || unavailable < replicas:
	case replicas == 1:
		hit(at, "maxUnavailable lets the only replica go before a new one is ready")
	default:
		hit(at, "maxUnavailable lets %[1]d of %[1]d replicas go before a new one is ready", replicas)
	}
}

// rolling returns what a workload says of rolling updates, and where; nil where its pods are not replaced that way.
func (p *pod) rolling() (*appsv1.RollingUpdateDeployment, *yaml.Node) {
	var typed struct {
		Spec struct {
			Strategy struct {
				Type          string                          `json:"type"`
				RollingUpdate *appsv1.RollingUpdateDeployment `json:"rollingUpdate"`
				Canary        *appsv1.RollingUpdateDeployment `json:"canary"`
			} `json:"strategy"`
			UpdateStrategy struct {
				RollingUpdate *appsv1.RollingUpdateDeployment `json:"rollingUpdate"`
			} `json:"updateStrategy"`
		} `json:"spec"`
	}
	if p.Into(&typed) != nil {
		return nil, nil
	}
	at := manifest.Find(p.Node, "spec", "strategy")
	switch strategy := typed.Spec.Strategy; {
	case p.Kind == "DaemonSet":
		return typed.Spec.UpdateStrategy.RollingUpdate, manifest.Find(p.Node, "spec", "updateStrategy")
	case p.Kind == "Rollout":
		return strategy.Canary, at
	case p.Kind == "Deployment" && strategy.Type != string(appsv1.RecreateDeploymentStrategyType):
		return cmp.Or(strategy.RollingUpdate, &appsv1.RollingUpdateDeployment{}), at
	}
	return nil, at
}

// surges reports whether a new pod stands beside the old one while pods are replaced: else nobody serves in between anyway.
func (p *pod) surges() bool {
	rolling, _ := p.rolling()
	if rolling == nil || max(p.low, p.Replicas) != 1 {
		return p.Kind != "Deployment" || rolling != nil
	}
	return rolling.MaxSurge == nil || rolling.MaxSurge.String() != "0" && rolling.MaxSurge.String() != "0%"
}

// shellIsProcessOne finds shells that get the SIGTERM in place of the program that they started.
func shellIsProcessOne(p *pod, c *corev1.Container, hit hitFunc) {
	parsed, is := scriptOf(slices.Concat(c.Command, c.Args))
	if !is || p.job || idle(c) || len(c.Command) == 0 || p.is(c, roles.Proxy, roles.Agent) || p.spec.ShareProcessNamespace != nil && *p.spec.ShareProcessNamespace {
		return
	}
	if h := hookOf(c); h != nil && h.Exec != nil && endsProcess.MatchString(strings.Join(h.Exec.Command, " ")) {
		return // the hook tells the program itself
	}
	if why := parsed.stays(); why != "" {
		hit(cmp.Or(manifest.Find(p.Container(c.Name), "command"), p.Container(c.Name)), "%s is process 1: %s", parsed.shell, why)
	}
}

// endsProcess finds commands that tell a program to end.
var endsProcess = regexp.MustCompile(`\b(kill|killall|pkill|quit|stop|shutdown|leave|drain)\b`)
