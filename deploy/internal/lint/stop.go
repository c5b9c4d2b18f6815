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
	"github.com/drain-agent/drain-agent/deploy/internal/inject"
	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
	"github.com/drain-agent/drain-agent/deploy/internal/roles"
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

// requestOverGrace judges by what people say of their longest request; nothing else in a manifest tells it.
func requestOverGrace(_ *set, p *pod, hit hitFunc) {
	if p.longest == 0 || p.job {
		return
	}
	need := p.longest
	if p.policy != nil {
		need += p.policy.Budget().Floor
	} else {
		for _, c := range p.lasting() {
			if d, _ := sleeps(hookOf(c)); p.is(c, roles.Serving) {
				need = max(need, p.longest+d)
			}
		}
	}
	if need > p.grace() {
		hit(cmp.Or(p.graceNode(), p.Template), "the longest request takes %v (%slongest-request), a stop with it %v, the grace period is %v", p.longest, inject.SettingPrefix, need, p.grace())
	}
}

// stopOverGrace judges by what was seen, where somebody hands it over.
func stopOverGrace(s *set, o *manifest.Object, hit hitFunc) {
	p, seen := s.pods[o], s.recorded(o)
	if p == nil || p.job || seen.N == 0 || seen.Longest < p.grace() || seen.Longest == p.grace() && !seen.CutShort {
		return
	}
	took := "needs"
	if seen.CutShort {
		took = "was cut short: it needs more than"
	}
	hit(cmp.Or(p.graceNode(), p.Template), "the longest of %d recorded stops %s %v, the agent's stages and margin counted; the grace period is %v", seen.N, took, seen.Longest, p.grace())
}

func sleepOverGrace(p *pod, c *corev1.Container, hit hitFunc) {
	if d, more := sleeps(hookOf(c)); d > 0 && d >= p.grace() && p.grace() > 0 {
		then := ""
		if more {
			then = ", and what the hook does besides never gets its turn"
		}
		hit(manifest.Find(p.Container(c.Name), "lifecycle", "preStop"), "sleeps %v of a grace period of %v%s", d, p.grace(), then)
	}
}

// leastShutdown is what an app needs to end in order, at the least: kubelet itself counts with two seconds.
const leastShutdown = 5 * time.Second

func sleepLeavesLittle(p *pod, c *corev1.Container, hit hitFunc) {
	if d, _ := sleeps(hookOf(c)); d > 0 && d < p.grace() && d > p.grace()-leastShutdown {
		hit(manifest.Find(p.Container(c.Name), "lifecycle", "preStop"), "sleeps %v of a grace period of %v: %v are left for the app's own shutdown", d, p.grace(), p.grace()-d)
	}
}

func graceZero(s *set, p *pod, hit hitFunc) {
	hooked := slices.ContainsFunc(p.lasting(), func(c *corev1.Container) bool { return hookOf(c) != nil })
	if p.grace() == 0 && !p.job && (hooked || p.agent != nil || p.Kind == "StatefulSet" || len(s.serving(p)) > 0) {
		hit(p.graceNode(), "a grace period of 0")
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

// outlived reports whether the agent was told that the proxy ends after it.
func (p *pod) outlived() bool {
	return slices.Contains(strings.Split(p.flag("outlives-me"), ","), budget.ProxyName)
}

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
		case h == nil && c.Image == "auto" && p.is(c, roles.Proxy) && p.outlived() && p.Pod.Annotations["sidecar.istio.io/nativeSidecar"] != "false": // it becomes a native sidecar of Istio, with a hook
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

// lameDuck reports whether somebody gave the pods minutes to stop. Who asks for so much without a hook has an app that goes on serving
// after SIGTERM, as Knative's activator (10 minutes) and webhook (5 minutes) do; shorter ones are what charts pass on without a thought.
func lameDuck(p *pod) bool { return p.grace() >= 5*time.Minute }

// noPrestop judges what a rollout replaces while others serve: not sets of members that go one by one, not pods that stand alone.
func noPrestop(s *set, p *pod, hit hitFunc) {
	if p.agent != nil || !slices.Contains([]string{"Deployment", "DeploymentConfig", "ReplicaSet", "ReplicationController", "Rollout", "CloneSet"}, p.Kind) || !p.surges() {
		return
	}
	if lameDuck(p) {
		return
	}
	for _, c := range s.serving(p) {
		if hookOf(c) == nil {
			hit(p.Container(c.Name), "container %s serves and has no preStop hook", c.Name)
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
		case port.HostPort == p.port() && !p.spec.HostNetwork:
			hit(nil, "hostPort %d: a second pod on the node, as at every rollout, cannot be scheduled", port.HostPort)
		case port.ContainerPort == p.port() && c.Name != inject.AgentContainer:
			hit(nil, "listens on %d, the agent's port", port.ContainerPort)
		}
	}
}

// port is the agent's port.
func (p *pod) port() int32 {
	_, text, _ := strings.Cut(p.flag("listen"), ":")
	if at := strings.LastIndex(text, ":"); at >= 0 { // [::]:9909
		text = text[at+1:]
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return inject.Port
	}
	return int32(n) //nolint:gosec // 16 bits
}

// nodePortClash finds pods in the host's network whose agents take the same port of a node.
func nodePortClash(s *set, p *pod, hit hitFunc) {
	if p.agent == nil || !p.spec.HostNetwork {
		return
	}
	for _, o := range s.objects {
		other := s.pods[o]
		if other == p {
			return // each pair is said once, at the later one
		}
		if other != nil && other.agent != nil && other.spec.HostNetwork && other.port() == p.port() {
			hit(p.Container(inject.AgentContainer), "the agent takes port %d of the node, as that of %s %s does: where both run, one pod cannot be scheduled", p.port(), other.Kind, other.Called())
			return
		}
	}
}

func sidecarOrder(_ *set, p *pod, hit hitFunc) {
	if p.agent == nil || !p.native || p.proxy.Where != roles.Native || p.outlived() {
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

// proxyRacesApp judges Envoys that are regular containers beside an app that they serve: not gateways, whose companions are
// helpers, and not where something holds the app back and the proxy up.
func proxyRacesApp(_ *set, p *pod, hit hitFunc) {
	c := p.Named(p.proxy.Container)
	if c == nil || p.agent != nil || p.proxy.Where != roles.Regular || p.job || p.gateway() || isGateway(p) || c.Lifecycle != nil && c.Lifecycle.PostStart != nil && c.Lifecycle.PreStop != nil {
		return
	}
	for _, app := range p.lasting() {
		if p.is(app, roles.Serving, roles.Worker) && !idle(app) {
			hit(p.Container(c.Name), "container %s is a regular container: it starts beside %s and gets SIGTERM in the same moment", c.Name, app.Name)
			return
		}
	}
}

// isGateway reports whether the pod asks Istio for a gateway rather than for a sidecar.
func isGateway(p *pod) bool {
	c := p.Named(p.proxy.Container)
	return strings.Contains(p.Pod.Annotations["inject.istio.io/templates"], "gateway") || c != nil && slices.Contains(c.Args, "router")
}

func jobNeverEnds(_ *set, p *pod, hit hitFunc) {
	added := p.proxy.Where == roles.Admission && slices.Contains([]string{"consul", "appmesh", "osm"}, p.proxy.Mesh) // as regular containers
	switch {
	case !p.job || p.flag("exit-with") != "" || !added && len(p.regular()) < 2 && (p.agent == nil || p.native) || p.gateway():
		return
	case p.proxy.Mesh == "kuma" && (p.agent == nil || p.native): // its control plane does
		return
	case p.agent == nil && slices.ContainsFunc(p.regular(), func(c *corev1.Container) bool {
		return quits.MatchString(strings.Join(slices.Concat(c.Command, c.Args), " "))
	}):
		return
	case added:
		hit(nil, "%s adds a proxy (%s), and nothing ends it when the work is done", p.proxy.Mesh, p.proxy.Why)
	case p.proxy.Where == roles.Regular || p.agent != nil && !p.native:
		hit(p.Container(p.proxy.Container), "nothing ends the proxy or the agent when the work is done")
	}
}

// quits finds commands that tell the proxy of their pod to end.
var quits = regexp.MustCompile(`/quitquitquit\b|/graceful_shutdown\b`)

func publishNotReady(s *set, o *manifest.Object, hit hitFunc) {
	selector, _ := o.Spec()["selector"].(map[string]any)
	if selector["statefulset.kubernetes.io/pod-name"] != nil || selector["apps.kubernetes.io/pod-index"] != nil {
		return // one member's own address
	}
	if o.Spec()["publishNotReadyAddresses"] == true && o.Spec()["clusterIP"] != "None" && o.Spec()["type"] != "ExternalName" {
		hit(manifest.Find(o.Node, "spec", "publishNotReadyAddresses"), "the endpoints of stopping pods stay ready to the very end")
	}
}
