package lint

import (
	"cmp"
	"encoding/json"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/agent/budget"
	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/inject"
	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/manifest"
)

// longStop is where the article's rule begins: longer stops call for checkpoint-and-resume.
const longStop = 120 * time.Second

func budgetOverGrace(_ *set, p *pod, hit hitFunc) {
	if p.policy == nil {
		return
	}
	policy := *p.policy
	policy.Grace = p.grace()
	if b := policy.Budget(); b.Scale < 1 {
		hit(p.graceNode(), "one drain needs %v (confirm-window %v + propagation %v + settle %v + stop shares %v + margin %v), the grace period is %v",
			b.Floor, policy.ConfirmWindow, policy.Propagation, policy.Settle,
			b.Floor-policy.ConfirmWindow-policy.Propagation-policy.Settle-policy.Margin, policy.Margin, policy.Grace)
	}
}

func graceMismatch(_ *set, p *pod, hit hitFunc) {
	if p.policy != nil && p.policy.Grace != p.grace() {
		hit(p.Container(inject.AgentContainer), "--grace-period is %v, the pod's grace period %v", p.policy.Grace, p.grace())
	}
}

func graceDefault(_ *set, p *pod, hit hitFunc) {
	if p.spec.TerminationGracePeriodSeconds == nil && !p.job {
		hit(manifest.Find(p.Template, "spec"), "terminationGracePeriodSeconds is not set: 30 s, whatever the stop takes")
	}
}

func sleepOverGrace(p *pod, c *corev1.Container, hit hitFunc) {
	if d, ok := inject.SleepOf(hookOf(c)); ok && d >= p.grace() {
		hit(manifest.Find(p.Container(c.Name), "lifecycle", "preStop"), "sleeps %v of a grace period of %v", d, p.grace())
	}
}

// balancer tells from annotations which cloud load balancer sends to a pod: the preset's name, and why.
func (s *set) balancer(p *pod) (string, *manifest.Object) {
	services := s.services(p)
	for _, o := range services {
		kind := o.Annotations["service.beta.kubernetes.io/aws-load-balancer-type"]
		switch {
		case kind == "nlb" || kind == "nlb-ip" || kind == "external", o.Spec()["loadBalancerClass"] == "service.k8s.aws/nlb":
			return "nlb", o
		case o.Annotations["cloud.google.com/neg"] != "", o.Annotations["cloud.google.com/l4-rbs"] != "":
			return "gclb", o
		}
	}
	for _, o := range s.objects {
		if o.Kind != "Ingress" || o.Namespace != p.Namespace {
			continue
		}
		if o.Spec()["ingressClassName"] != "alb" && o.Annotations["kubernetes.io/ingress.class"] != "alb" && o.Annotations["alb.ingress.kubernetes.io/target-type"] == "" {
			continue
		}
		text, _ := json.Marshal(o.Spec()) // values from JSON
		if slices.ContainsFunc(services, func(service *manifest.Object) bool {
			return strings.Contains(string(text), strconv.Quote(service.Name))
		}) {
			return "alb", o
		}
	}
	return "", nil
}

func deregistrationOverGrace(s *set, p *pod, hit hitFunc) {
	name, by := s.balancer(p)
	preset, ok := budget.Find(name)
	if !ok {
		return
	}
	if p.grace() <= preset.Propagation {
		hit(p.graceNode(), "%s %s: a %s goes on sending new connections for %v after the pod's deletion, the grace period is %v", by.Kind, by.Name, name, preset.Propagation, p.grace())
	} else if p.policy != nil && p.policy.Propagation < preset.Propagation {
		hit(p.Container(inject.AgentContainer), "%s %s: a %s goes on sending for %v, the agent expects %v; say --preset=%s", by.Kind, by.Name, name, preset.Propagation, p.policy.Propagation, name)
	}
}

func longStops(_ *set, p *pod, hit hitFunc) {
	if p.grace() > longStop {
		hit(p.graceNode(), "a stop may take %v", p.grace())
	}
}

// execHook finds the name with which a command calls the agent.
var execHook = regexp.MustCompile(`(?:drain-agent hook (?:--\S+ )*|/prestop/)([^\s;/]+)`)

func hookMissing(_ *set, p *pod, hit hitFunc) {
	if p.agent == nil {
		return
	}
	called := map[string]bool{}
	hooks := strings.Split(cmp.Or(p.flag("hooks"), "app,proxy,agent"), ",")
	for _, c := range p.lasting() {
		switch h := hookOf(c); {
		case h != nil && h.HTTPGet != nil:
			called[strings.TrimPrefix(h.HTTPGet.Path, "/prestop/")] = true
		case h != nil && h.Exec != nil: // … drain-agent hook [--after] NAME [-- COMMAND], …/prestop/NAME
			if m := execHook.FindStringSubmatch(strings.Join(h.Exec.Command, " ")); m != nil {
				called[m[1]] = true
			}
		case h == nil && p.job && !slices.Contains(hooks, p.agentName(c.Name)): // its end is what ends the Job
		case h == nil && slices.Contains(p.regular(), c):
			hit(p.Container(c.Name), "container %s has no preStop hook: it gets SIGTERM at once, while the others are held", c.Name)
			called[p.agentName(c.Name)] = true // said once
		}
	}
	for _, name := range hooks {
		if name = strings.TrimSpace(name); name != "" && !called[name] {
			hit(p.Container(inject.AgentContainer), "--hooks names %s, no container of the pod calls /prestop/%s", name, name)
		}
	}
}

func noPrestop(_ *set, p *pod, hit hitFunc) {
	if p.agent != nil || p.job {
		return
	}
	for _, c := range p.regular() {
		if hookOf(c) == nil && len(c.Ports) > 0 {
			hit(p.Container(c.Name), "container %s has ports and no preStop hook", c.Name)
		}
	}
}

func hookToAdmin(_ *pod, _ *corev1.Container, get *corev1.HTTPGetAction) string {
	for _, path := range []string{"/healthcheck/fail", "/drain_listeners", "/quitquitquit"} {
		if strings.HasPrefix(get.Path, path) {
			return "the hook is GET " + get.Path + ": Envoy's admin answers 405 and kubelet ignores it"
		}
	}
	return ""
}

func hookPortName(_ *pod, c *corev1.Container, get *corev1.HTTPGetAction) string {
	if slices.ContainsFunc(c.Ports, func(port corev1.ContainerPort) bool { return port.Name == get.Port.StrVal }) || get.Port.StrVal == "" {
		return ""
	}
	return "the hook's port " + strconv.Quote(get.Port.StrVal) + " is not among this container's own ports"
}

func hookHost(p *pod, _ *corev1.Container, get *corev1.HTTPGetAction) string {
	if p.spec.HostNetwork || get.Host != "localhost" && !net.ParseIP(get.Host).IsLoopback() {
		return ""
	}
	return "host " + get.Host + " is the node's loopback, not the pod's"
}

func hostNetwork(p *pod, _ *corev1.Container, get *corev1.HTTPGetAction) string {
	if !p.spec.HostNetwork || get.Host != "" {
		return ""
	}
	return "an httpGet hook without host in a pod with hostNetwork fails"
}

func portClash(p *pod, c *corev1.Container, hit hitFunc) {
	if p.agent == nil {
		return
	}
	for _, port := range c.Ports {
		switch {
		case port.HostPort == inject.Port:
			hit(nil, "hostPort %d: a second pod on the node, as at every rollout, cannot be scheduled", port.HostPort)
		case port.ContainerPort == inject.Port && c.Name != inject.AgentContainer:
			hit(nil, "listens on %d, the agent's port", port.ContainerPort)
		}
	}
}

func sidecarOrder(_ *set, p *pod, hit hitFunc) {
	if p.agent == nil || !p.native || p.proxy.Where != inject.Native || slices.Contains(strings.Split(p.flag("outlives-me"), ","), budget.ProxyName) {
		return
	}
	for _, c := range p.Sidecars() {
		switch c.Name {
		case inject.AgentContainer:
			return
		case p.proxy.Container:
			hit(p.Container(inject.AgentContainer), "the proxy %s stands before the agent: it is stopped only after the agent has ended, and the agent waits for it", c.Name)
			return
		}
	}
}

// stopOrder compares --stop-order with the order in which kubelet can stop: regular containers, then sidecars from the last.
func stopOrder(_ *set, p *pod, hit hitFunc) {
	if p.policy == nil || p.flag("stop-order") == "" {
		return
	}
	possible := map[string]int{}
	for i, c := range p.Sidecars() {
		possible[p.agentName(c.Name)] = len(p.Sidecars()) - i
	}
	for _, a := range p.policy.Containers {
		for _, b := range p.policy.Containers {
			if !a.Agent && !b.Agent && a.Stage < b.Stage && possible[a.Name] > possible[b.Name] {
				hit(p.Container(inject.AgentContainer), "--stop-order=%s lets %s go before %s, kubelet stops the sidecar %s after it", p.flag("stop-order"), a.Name, b.Name, a.Name)
			}
		}
	}
}

func proxyRacesApp(_ *set, p *pod, hit hitFunc) {
	if p.agent == nil && p.proxy.Where == inject.Regular && len(p.regular()) > 1 && !p.job {
		hit(p.Container(p.proxy.Container), "container %s is a regular container: it starts beside the app and gets SIGTERM in the same moment", p.proxy.Container)
	}
}

func jobNeverEnds(_ *set, p *pod, hit hitFunc) {
	if !p.job || len(p.regular()) < 2 && (p.agent == nil || p.native) {
		return
	}
	if p.flag("exit-with") == "" && (p.proxy.Where == inject.Regular || p.agent != nil && !p.native) {
		hit(p.Container(p.proxy.Container), "nothing ends the proxy or the agent when the work is done")
	}
}

func publishNotReady(s *set, o *manifest.Object, hit hitFunc) {
	if o.Spec()["publishNotReadyAddresses"] == true && o.Spec()["clusterIP"] != "None" {
		hit(manifest.Find(o.Node, "spec", "publishNotReadyAddresses"), "the endpoints of stopping pods stay ready to the very end")
	}
}
