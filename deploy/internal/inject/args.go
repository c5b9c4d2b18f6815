package inject

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/drain-agent/drain-agent/agent/budget"
	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
	"github.com/drain-agent/drain-agent/deploy/internal/roles"
)

// args writes the agent's command line and divides the grace period.
func (p *Plan) args(w *manifest.Workload, objects []*manifest.Object, o Options) error {
	var names, work, shares []string
	var propagation time.Duration
	for _, h := range p.Hooks {
		names = append(names, h.Name)
		if h.role == roles.Worker {
			work = append(work, h.Name)
		}
		if h.role != roles.Worker && !h.open {
			shares = append(shares, "--stop="+h.Name+"="+(h.least()+h.slow).String())
		}
		propagation = max(propagation, h.sleep)
	}
	args := []string{"--hooks=" + strings.Join(append(names, budget.AgentName), ","), "--stop-order=" + p.order()}
	if p.Port != Port {
		args = append(args, fmt.Sprintf("--listen=:%d", p.Port))
	}
	args = append(args, shares...)
	args = append(args, p.outlives(work, o)...)
	args = append(args, p.preset(w, objects, o, propagation)...)
	_, probes := ProbesThrough(w, p.Proxy.Container)
	if p.Proxy.Found() || p.Admin != "" {
		args = append(args, "--envoy-admin="+p.Admin)
	} else {
		more, questions := p.withoutProxy(w, o)
		if len(questions) > 0 {
			return errors.New(strings.Join(questions, "\n  "))
		}
		args = append(args, more...)
		probes = p.probed(w)
	}
	for _, source := range o.AppSource {
		args = append(args, "--app-source="+source)
	}
	if !slices.ContainsFunc(p.Hooks, func(h hook) bool { return h.Name != budget.ProxyName && h.role != roles.Helper }) {
		args = append(args, "--app-source=none")
	} else if len(o.AppSource) == 0 && p.Proxy.Found() {
		p.note("the app's own count of requests is not read: say --app-source=… for a zero that both sides agree on")
	}
	idle := !p.Proxy.Found() && len(p.Roles.Of(roles.Serving)) == 0
	if (p.Job || idle) && o.Preset == "" && propagation == 0 { // nobody sends to a Job, nor to workers alone: no waiting for silence
		args = append(args, "--propagation=0s", "--announce-max=0s", "--quiet-max=0s")
	}
	if probes > 0 {
		args = append(args, "--background="+strconv.FormatFloat(math.Round(probes*1000)/1000, 'f', -1, 64))
	}
	watches, err := p.watches(work, o)
	if err != nil {
		return err
	}
	args = append(args, watches...)
	if p.Job && len(work) > 0 {
		args = append(args, "--exit-with="+strings.Join(work, ","), "--quit-proxy=true")
	} else if len(work) > 0 {
		args = append(args, "--workers="+strings.Join(work, ","))
	}
	if p.Token != "" {
		args = append(args, "--token-file="+tokenDir+"/token")
	}
	if p.Report != "" {
		args = append(args, "--report="+p.Report, "--report-auth-file="+reportDir)
	}
	if slices.Contains(o.AgentArgs, "--mode=observe") { // hooks are answered as they are today
		for _, h := range p.Hooks {
			args = append(args, "--observe-sleep="+h.Name+"="+h.sleep.String())
		}
	}
	args = append(args, o.AgentArgs...)
	left, err := p.grace(w, o, args)
	if err != nil {
		return err
	}
	args = slices.Insert(args, 2, left...)
	p.Args = append([]string{fmt.Sprintf("--grace-period=%.0fs", p.Grace.Seconds())}, args...)
	return nil
}

// outlives says whose end cannot be waited for: the proxy's where it is stopped after the agent or its hook is not ours, that of workers
// where only kubelet tells it.
func (p *Plan) outlives(work []string, o Options) []string {
	names := p.unwatched(work, o)
	if proxy := p.outlivingProxy(); proxy {
		names = append(names, budget.ProxyName)
	}
	if len(names) == 0 {
		return nil
	}
	return []string{"--outlives-me=" + strings.Join(names, ",")}
}

// unwatched are the workers of a pod that goes on whose end the agent cannot see. Where all that is stopped after them are native sidecars,
// as the agent is, kubelet keeps the order and tells it.
func (p *Plan) unwatched(work []string, o Options) (names []string) {
	if !p.shown() || p.Job || slices.ContainsFunc(p.Hooks, func(h hook) bool { return h.stage() > 0 && h.Name != budget.ProxyName }) {
		return nil
	}
	for _, h := range p.Hooks {
		if slices.Contains(work, h.Name) && h.port == 0 && !watched(h, o) {
			names = append(names, h.Name)
		}
	}
	return names
}

// shown reports whether kubelet tells the agent, by SIGTERM, that the regular containers have ended.
func (p *Plan) shown() bool {
	return p.Native && p.Proxy.Where != roles.Regular && (!p.Job || p.ender() != "")
}

func watched(h hook, o Options) bool {
	return slices.ContainsFunc(o.AgentArgs, func(arg string) bool { return strings.HasPrefix(arg, "--watch="+h.Name+"=") })
}

func (p *Plan) outlivingProxy() bool {
	if !p.Proxy.Found() || slices.ContainsFunc(p.Hooks, func(h hook) bool { return h.Name == budget.ProxyName }) {
		return false
	}
	switch {
	case p.Proxy.Where == roles.Native && p.Native: // the agent stands first, so it is stopped last and sees the proxy's end
		return false
	case p.Proxy.Where == roles.Native:
		p.note("the proxy is a native sidecar and the agent a regular container: kubelet stops the proxy after it, so its end is not waited for (--outlives-me)")
	case p.Assumed:
		p.note("Istio is taken to put a native proxy before the agent, as it does by default on Kubernetes 1.33 and later, so its end is not waited for (--outlives-me): where yours are regular containers, say --shape=classic")
	case p.Proxy.Mesh == "istio":
		p.note("Istio puts a native proxy before the agent, and kubelet stops it after it: its end is not waited for (--outlives-me)")
	default:
		return false
	}
	return true
}

// preset chooses who sends new connections: the user's word, a balancer beside the pod, the mesh.
func (p *Plan) preset(w *manifest.Workload, objects []*manifest.Object, o Options, slept time.Duration) (args []string) {
	preset := o.Preset
	if name, by := w.Balancer(objects); preset == "" && by != nil {
		preset = name
		p.note(fmt.Sprintf("%s %s leads a load balancer to the pods: --preset=%s", by.Kind, by.Name, name))
	}
	if preset == "" && p.Proxy.Mesh == "istio" {
		preset = "istio"
	}
	if preset != "" {
		args = append(args, "--preset="+preset)
	}
	if known, ok := budget.Find(preset); slept > 0 && (!ok || slept > known.Propagation) {
		args = append(args, "--propagation="+slept.String())
	}
	return args
}

// watches says how the agent sees that work is done where kubelet does not show it: a port that closes, or a file.
func (p *Plan) watches(work []string, o Options) (args []string, err error) {
	var blind []string
	for _, h := range p.Hooks {
		switch {
		case !slices.Contains(work, h.Name) || watched(h, o):
		case h.port > 0:
			args = append(args, fmt.Sprintf("--watch=%s=port:%d", h.Name, h.port))
		default:
			blind = append(blind, h.Container)
		}
	}
	if p.shown() || len(blind) == 0 { // kubelet's SIGTERM to the sidecars is the proof
		return args, nil
	}
	move := "Make the proxy a native sidecar (move " + p.Proxy.Container + " to initContainers with restartPolicy: Always), so that kubelet shows it"
	if p.Stub {
		move = "Let Istio make its proxy a native sidecar (annotation " + nativeSidecar + ": \"true\"), so that kubelet shows it"
	} else if p.Proxy.Where != roles.Regular && (p.Proxy.Where != roles.Admission || slices.Contains([]string{"istio", "kuma"}, p.Proxy.Mesh)) {
		move = "Let the agent be a native sidecar (without --shape=classic), so that kubelet shows it"
	} else if p.Proxy.Where == roles.Admission {
		move = "Nothing ends the proxy that " + p.Proxy.Mesh + " adds but the agent. Declare the port that the work closes last (containerPort)"
	}
	return nil, fmt.Errorf("the agent cannot see when the work is done: %s has no port. %s; or let it write a file at its end and say --agent-arg=--watch=%s=file:PATH",
		strings.Join(blind, " and "), move, cmp.Or(p.hookName(blind[0]), budget.AppName))
}

func (p *Plan) hookName(container string) string {
	for _, h := range p.Hooks {
		if h.Container == container {
			return h.Name
		}
	}
	return ""
}

// grace takes the pod's grace period, or a longer one where a drain would not fit, and returns the shares of workers and of hooks that
// nobody knows the length of: the rest of it.
func (p *Plan) grace(w *manifest.Workload, o Options, args []string) ([]string, error) {
	policy, err := budget.FromArgs(args)
	if err != nil {
		return nil, err
	}
	now := int64(-1)
	if s := w.Pod.Spec.TerminationGracePeriodSeconds; s != nil {
		now = *s
	}
	serves := len(p.Roles.Of(roles.Serving)) > 0 || len(p.Roles.Of(roles.Worker)) == 0
	need := policy.Budget().Floor + max(policy.QuietMax, o.Longest)
	for _, h := range p.Hooks {
		if h.role == roles.Worker {
			need = max(need, policy.Budget().Floor+minWork+h.slow)
		}
	}
	seconds := max(now, 30, 5*int64(math.Ceil(need.Seconds()/5)))
	if o.Grace > 0 {
		seconds = int64(math.Ceil(o.Grace.Seconds()))
	}
	p.Grace = time.Duration(seconds) * time.Second
	left := p.Grace - policy.Budget().Floor - drainOfWorkers
	if serves {
		left = p.Grace - policy.Budget().Floor - policy.QuietMax
	}
	stages := map[int]bool{}
	for _, h := range p.Hooks {
		stages[h.stage()] = stages[h.stage()] || h.role == roles.Worker || h.open
	}
	maps.DeleteFunc(stages, func(_ int, open bool) bool { return !open })
	left /= time.Duration(max(len(stages), 1))
	var shares []string
	for _, h := range p.Hooks { // from SIGTERM on, or from the hook's own command on
		given := slices.ContainsFunc(o.AgentArgs, func(arg string) bool { return strings.HasPrefix(arg, "--stop="+h.Name+"=") })
		if h.role != roles.Worker && !h.open || given {
			continue
		}
		least := h.least() + h.slow
		share := max(left, least)
		if h.role == roles.Worker {
			if serves { // the agent gives it whatever else is left when its turn comes
				share = left / 2
			}
			share = max(share, least, minWork)
			p.note(fmt.Sprintf("container %s works: it has at least %v from SIGTERM to its end; terminationGracePeriodSeconds must hold its longest piece of work", h.Container, share.Truncate(time.Second)))
		}
		shares = append(shares, "--stop="+h.Name+"="+share.Truncate(time.Second).String())
	}
	if now > 0 && seconds > now {
		p.note(fmt.Sprintf("terminationGracePeriodSeconds was %d and became %d: one drain needs up to %v (drainctl budget draws it)", now, seconds, need))
	}
	if o.Grace > 0 && o.Grace < policy.Budget().Floor {
		p.note(fmt.Sprintf("--grace-period=%v is below the %v that one drain needs: stop shares will shrink", o.Grace, policy.Budget().Floor))
	}
	return shares, nil
}

// least is what a container has from SIGTERM to its end where its hook adds nothing: what serves has an app's share, also where
// several serve and none of them is called app.
func (h *hook) least() time.Duration {
	if h.role == roles.Serving {
		return budget.StopShare(budget.AppName)
	}
	return budget.StopShare(h.Name)
}

// minWork is the least that a worker gets; drainOfWorkers is what Envoy's part of a stop keeps where nobody is served.
const (
	minWork        = 10 * time.Second
	drainOfWorkers = 3 * time.Second
)
