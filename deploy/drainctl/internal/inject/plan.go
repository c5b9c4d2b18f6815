package inject

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/drain-agent/drain-agent/agent/budget"
	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/manifest"
)

// Options are what the user may decide.
type Options struct {
	Image        string
	Shape        string   // auto, native or classic
	Proxy        string   // auto, none, istio, consul, kuma or a container's name
	App          string   // the container that serves; "" is the first that is not the proxy
	EnvoyAdmin   string   // "" is what was found
	AppSource    []string // --app-source of the agent
	Preset       string
	Grace        time.Duration // 0: as the pod has it, or what the presets need
	ReplaceHooks []string      // containers whose own hook is given up
	AgentArgs    []string      // further arguments of the agent
	Token        string        // "" makes one; "-" goes without
}

// Plan is everything that was decided for one pod.
type Plan struct {
	Proxy       Proxy
	Native      bool
	Job         bool
	Image       string
	Args        []string
	Grace       time.Duration
	HostNetwork bool
	ExecProbe   bool // Istio may point an httpGet startup probe at a port that is not there yet
	Wait        bool // the agent's start waits for the proxy: containers behind it then start after both
	Admin       string
	Token       string
	User        int64 // of the agent; 0 is the pod's or the image's
	Mounts      []corev1.VolumeMount
	Hooks       []hook
	Chained     bool
	StartProbe  bool     // the proxy gets a startup probe
	Notes       []string // what a person should know, one sentence each
}

// NewPlan decides what a pod gets. The error joins everything that stands against it.
func NewPlan(w *manifest.Workload, objects []*manifest.Object, o Options) (*Plan, error) {
	spec := &w.Pod.Spec
	if len(spec.Containers) == 0 {
		return nil, errors.New("the pod has no containers")
	}
	for _, c := range w.Containers() {
		if w.Container(c.Name) == nil || c.Name == "" {
			return nil, errors.New("a container has no name of its own in the text (a merge key does not count)")
		}
	}
	proxy, err := FindProxy(w, o.Proxy, objects)
	if err != nil {
		return nil, err
	}
	p := &Plan{
		Proxy: proxy, Image: o.Image, Native: o.Shape != "classic", Job: w.Job(),
		HostNetwork: spec.HostNetwork, ExecProbe: proxy.Mesh == "istio", Token: o.Token,
	}
	if p.Token == "-" {
		p.Token = ""
	}
	if err := p.addHooks(w, o); err != nil {
		return nil, err
	}
	p.admin(w, o)
	if err := p.args(w, o); err != nil {
		return nil, err
	}
	if !p.Native && proxy.Mesh == "istio" {
		p.note("a classic istio-proxy closes port 15020 when the pod stops: with rewritten probes (sidecar.istio.io/rewriteAppHTTPProbers) the hooks are cut after 5 s; prefer native sidecars")
	}
	p.Wait = !p.Native && proxy.Where == Regular && spec.Containers[0].Name == proxy.Container && len(spec.Containers) > 1
	p.StartProbe = p.Native && proxy.Where == Native && w.Named(proxy.Container).StartupProbe == nil
	if s := spec.SecurityContext; s != nil && s.RunAsUser != nil && (*s.RunAsUser == 1337 || *s.RunAsUser == 0) {
		p.User = 65532
	}
	return p, nil
}

// addHooks names the containers that the agent holds: every regular one, and the proxy, which is last, as it stops.
func (p *Plan) addHooks(w *manifest.Workload, o Options) error {
	regular := w.Regular()
	var held []*corev1.Container
	if !p.Job || p.Proxy.Where == Regular || !p.Native { // else the app's end is what ends the Job
		held = slices.Clone(regular)
	}
	app := o.App
	for _, c := range slices.Backward(regular) {
		if c.Name != p.Proxy.Container && o.App == "" {
			app = c.Name
		}
	}
	if c := w.Named(p.Proxy.Container); c != nil {
		held = slices.DeleteFunc(held, func(one *corev1.Container) bool { return one == c })
		if p.Proxy.Where == Native && p.Proxy.Mesh == "istio" {
			p.note("istio-proxy keeps its own preStop hook, which starts Envoy's drain")
		} else {
			held = append(held, c)
		}
	}
	var problems []string
	for _, c := range held {
		name := c.Name
		switch {
		case c.Name == p.Proxy.Container:
			name = budget.ProxyName
		case c.Name == app:
			name = budget.AppName
		case name == budget.AgentName || name == budget.ProxyName || name == budget.AppName:
			name += "-container"
		}
		h, err := newHook(c, name, o.ReplaceHooks)
		if err != nil {
			problems = append(problems, err.Error())
		}
		p.note(h.note)
		p.Chained = p.Chained || h.Chain != nil
		p.Hooks = append(p.Hooks, h)
	}
	if len(p.Hooks)+1 > budget.MaxContainers {
		problems = append(problems, fmt.Sprintf("%d containers: one agent holds at most %d", len(p.Hooks), budget.MaxContainers-1))
	}
	if o.App != "" && !slices.ContainsFunc(p.Hooks, func(h hook) bool { return h.Container == o.App }) {
		problems = append(problems, fmt.Sprintf("no regular container %s for --app", o.App))
	}
	if len(problems) > 0 {
		return errors.New(strings.Join(problems, "\n  "))
	}
	return nil
}

// admin decides where Envoy's admin is, and mounts its socket into the agent.
func (p *Plan) admin(w *manifest.Workload, o Options) {
	p.Admin = cmp.Or(o.EnvoyAdmin, p.Proxy.Admin)
	if p.Admin == "" && p.Proxy.Found() {
		p.Admin = defaultAdmin
		p.note("where Envoy's admin listens stands in none of these files: " + p.Admin + " is assumed; say --envoy-admin if it is another")
	}
	socket, isSocket := strings.CutPrefix(p.Admin, "unix://")
	if c := w.Named(p.Proxy.Container); isSocket && c != nil {
		for _, m := range c.VolumeMounts {
			if strings.HasPrefix(socket, strings.TrimSuffix(m.MountPath, "/")+"/") {
				p.Mounts = append(p.Mounts, corev1.VolumeMount{Name: m.Name, MountPath: m.MountPath})
			}
		}
	}
}

// args writes the agent's command line and divides the grace period.
func (p *Plan) args(w *manifest.Workload, o Options) error {
	var names, apps, order, shares []string
	var propagation time.Duration
	for _, h := range p.Hooks {
		names = append(names, h.Name)
		shares = append(shares, "--stop="+h.Name+"="+(budget.StopShare(h.Name)+h.slow).String())
		if h.Name != budget.ProxyName {
			apps = append(apps, h.Name)
		}
		propagation = max(propagation, h.sleep)
	}
	if len(apps) > 0 {
		order = append(order, strings.Join(apps, "+"))
	}
	if p.Proxy.Found() {
		order = append(order, budget.ProxyName)
	}
	args := append([]string{"--hooks=" + strings.Join(append(names, budget.AgentName), ","), "--stop-order=" + strings.Join(order, ",")}, shares...)
	if p.Proxy.Found() && len(names) == len(apps) && (p.Proxy.Where == Native || p.Proxy.Mesh == "istio") { // its hook is not ours
		args = append(args, "--outlives-me="+budget.ProxyName)
		p.note("the proxy stands before the agent and is stopped after it: its end is not waited for (--outlives-me)")
	}
	preset := o.Preset
	if preset == "" && p.Proxy.Mesh == "istio" {
		preset = "istio"
	}
	if preset != "" {
		args = append(args, "--preset="+preset)
	}
	if known, ok := budget.Find(preset); propagation > 0 && (!ok || propagation > known.Propagation) {
		args = append(args, "--propagation="+propagation.String())
	}
	args = append(args, "--envoy-admin="+p.Admin)
	for _, source := range o.AppSource {
		args = append(args, "--app-source="+source)
	}
	if len(apps) == 0 {
		args = append(args, "--app-source=none")
	} else if len(o.AppSource) == 0 {
		p.note("the app's own count of requests is not read: say --app-source=… for a zero that both sides agree on")
	}
	if p.Job && o.Preset == "" && propagation == 0 { // nobody sends to a Job: no waiting for silence
		args = append(args, "--propagation=0s", "--announce-max=0s", "--quiet-max=0s")
	}
	if _, rate := ProbesThrough(w, p.Proxy.Container); rate > 0 {
		args = append(args, "--background="+strconv.FormatFloat(math.Round(rate*1000)/1000, 'f', -1, 64))
	}
	if p.Job && len(apps) > 0 {
		watch, err := p.watch(w, o)
		if err != nil {
			return err
		}
		args = append(append(args, watch...), "--exit-with="+apps[0], "--quit-proxy=true")
	}
	if p.Token != "" {
		args = append(args, "--token-file="+tokenDir+"/token")
	}
	if slices.Contains(o.AgentArgs, "--mode=observe") { // hooks are answered as they are today
		for _, h := range p.Hooks {
			args = append(args, "--observe-sleep="+h.Name+"="+h.sleep.String())
		}
	}
	args = append(args, o.AgentArgs...)
	if err := p.grace(w, o, args); err != nil {
		return err
	}
	p.Args = append([]string{fmt.Sprintf("--grace-period=%.0fs", p.Grace.Seconds())}, args...)
	return nil
}

// watch says how the agent sees that a Job's work is done where its proxy is a regular container.
func (p *Plan) watch(w *manifest.Workload, o Options) ([]string, error) {
	if slices.ContainsFunc(o.AgentArgs, func(arg string) bool { return strings.HasPrefix(arg, "--watch="+budget.AppName+"=") }) {
		return nil, nil
	}
	for _, h := range p.Hooks {
		if c := w.Named(h.Container); h.Name == budget.AppName && len(c.Ports) > 0 {
			return []string{fmt.Sprintf("--watch=app=port:%d", c.Ports[0].ContainerPort)}, nil
		}
	}
	return nil, fmt.Errorf("the agent cannot see when the work is done: the app has no port. Make the proxy a native sidecar (move %s to initContainers with "+
		"restartPolicy: Always), so that kubelet ends it; or let the app write a file at its end and say --agent-arg=--watch=app=file:PATH", p.Proxy.Container)
}

// grace takes the pod's grace period, or a longer one where a drain would not fit.
func (p *Plan) grace(w *manifest.Workload, o Options, args []string) error {
	policy, err := budget.FromArgs(args)
	if err != nil {
		return err
	}
	now := int64(-1)
	if s := w.Pod.Spec.TerminationGracePeriodSeconds; s != nil {
		now = *s
	}
	need := policy.Budget().Floor + policy.QuietMax
	seconds := max(now, 30, 5*int64(math.Ceil(need.Seconds()/5)))
	if o.Grace > 0 {
		seconds = int64(math.Ceil(o.Grace.Seconds()))
	}
	p.Grace = time.Duration(seconds) * time.Second
	if now > 0 && seconds > now {
		p.note(fmt.Sprintf("terminationGracePeriodSeconds was %d and became %d: one drain needs up to %v (drainctl budget draws it)", now, seconds, need))
	}
	if o.Grace > 0 && o.Grace < policy.Budget().Floor {
		p.note(fmt.Sprintf("--grace-period=%v is below the %v that one drain needs: stop shares will shrink", o.Grace, policy.Budget().Floor))
	}
	return nil
}

// OtherAdmin reports whether the agent must be told where Envoy's admin is.
func (p *Plan) OtherAdmin() bool { return p.Admin != "" && p.Admin != defaultAdmin }

// ProbesThrough returns the HTTP and gRPC probes of the pod that pass the proxy, as "container probe", and their rate per second:
// those whose port is one of the proxy's. Under Istio probes go to pilot-agent and from there straight to the app.
func ProbesThrough(w *manifest.Workload, proxy string) (names []string, rate float64) {
	through := map[int32]bool{}
	if c := w.Named(proxy); c != nil {
		for _, port := range c.Ports {
			through[port.ContainerPort] = !slices.Contains([]string{"admin", "envoy-admin", "metrics", "health", "readiness", "status"}, port.Name)
		}
	}
	for _, c := range w.Containers() {
		for name, probe := range map[string]*corev1.Probe{"livenessProbe": c.LivenessProbe, "readinessProbe": c.ReadinessProbe} {
			if probe != nil && through[probePort(c, probe)] {
				names = append(names, c.Name+" "+name)
				rate += 1 / float64(max(cmp.Or(probe.PeriodSeconds, 10), 1))
			}
		}
	}
	slices.Sort(names)
	return names, rate
}

func probePort(c *corev1.Container, probe *corev1.Probe) int32 {
	switch {
	case probe.GRPC != nil:
		return probe.GRPC.Port
	case probe.HTTPGet != nil:
		return portOf(c, probe.HTTPGet.Port)
	}
	return 0
}

// portOf returns a port's number, 0 for a name that the container does not declare.
func portOf(c *corev1.Container, port intstr.IntOrString) int32 {
	for _, one := range c.Ports {
		if one.Name != "" && one.Name == port.StrVal {
			return one.ContainerPort
		}
	}
	return port.IntVal
}

func (p *Plan) note(text string) {
	if text != "" {
		p.Notes = append(p.Notes, text)
	}
}

// Shape says in words what the pod gets.
func (p *Plan) Shape() string {
	how := "regular container"
	if p.Native {
		how = "native sidecar"
	}
	var names []string
	for _, h := range p.Hooks {
		names = append(names, h.Container)
	}
	shape := "agent as a " + how + ", hooks for " + strings.Join(names, ", ")
	if p.Job {
		shape += ", exits with the app"
	}
	return shape
}
