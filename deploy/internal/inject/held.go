package inject

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/agent/budget"
	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
	"github.com/drain-agent/drain-agent/deploy/internal/roles"
)

// addHooks names the containers that the agent holds: what serves, works or is depended on, and the proxy. Helpers go when they
// like; a native sidecar that is no proxy is kubelet's, which stops it after all regular containers.
func (p *Plan) addHooks(w *manifest.Workload, o Options) error {
	var problems []string
	app := p.app(o)
	for _, c := range p.Roles.Containers {
		held := p.holds(w, c, o)
		if !held {
			continue
		}
		name := c.Name
		switch {
		case c.Name == p.Proxy.Container:
			name = budget.ProxyName
		case c.Name == app:
			name = budget.AppName
		case name == budget.AgentName || name == budget.ProxyName || name == budget.AppName:
			name += "-container"
		}
		replaced := p.replaced(w, c, o)
		if len(replaced) > len(o.ReplaceHooks) {
			p.note(fmt.Sprintf("container %s: its preStop hook let a shutdown manager drain Envoy; the agent's takes its place", c.Name))
		}
		h, err := newHook(w.Named(c.Name), name, c.Role, replaced)
		if err != nil {
			problems = append(problems, err.Error())
		}
		h.port, h.agent = c.Port, p.Port
		p.note(h.note)
		p.Binary = p.Binary || h.Chain != nil
		p.Hooks = append(p.Hooks, h)
	}
	if p.Stub {
		p.Hooks = append(p.Hooks, hook{Container: istioProxy, Name: budget.ProxyName, role: roles.Proxy, agent: p.Port})
	}
	slices.SortStableFunc(p.Hooks, func(a, b hook) int { return a.stage() - b.stage() })
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

// holds reports whether a container gets a hook of ours.
func (p *Plan) holds(w *manifest.Workload, c roles.Container, o Options) bool {
	switch {
	case c.Role == roles.Agent:
		return false
	case c.Role == roles.Proxy && c.Name == p.Proxy.Container:
		if p.Proxy.Where != roles.Regular && p.Proxy.Mesh == "istio" {
			p.note("istio-proxy keeps its own preStop hook, which starts Envoy's drain")
			return false
		}
		return true
	case c.Native:
		return false
	case c.Role == roles.Helper:
		return hasHook(w.Named(c.Name)) && slices.Contains(p.replaced(w, c, o), c.Name)
	}
	return !p.Job || p.ender() == "" // else the work's end is what ends the pod
}

// ender says who ends the proxy and the agent of a pod whose work is done; "" where nobody does, so that the agent must. Only Istio is
// known to add native sidecars by itself. Kuma's control plane tells its proxy to quit once all other regular containers have ended
// (kuma pkg/plugins/runtime/k8s/controllers/pod_status_controller.go).
func (p *Plan) ender() string {
	switch {
	case !p.Native || p.Classic:
		return ""
	case !p.Proxy.Found(), p.Proxy.Where == roles.Native, p.Proxy.Where == roles.Admission && p.Proxy.Mesh == "istio":
		return "kubelet ends it with the work"
	case p.Proxy.Mesh == "kuma" && slices.Contains([]string{"", "kuma-sidecar"}, p.Proxy.Container):
		return "Kuma's control plane ends the proxy with the work"
	}
	return ""
}

// app is the container that hooks and flags call app: the user's choice, the one that Envoy leads to, or the only one that serves
// or works; "" where several do.
func (p *Plan) app(o Options) string {
	if o.App != "" {
		return o.App
	}
	all := p.Roles.Of(roles.Serving)
	var led []string
	for _, c := range all {
		if p.Proxy.Config != nil && p.Proxy.Config.Leads[c.Port] != "" {
			led = append(led, c.Name)
		}
	}
	switch {
	case len(led) == 1:
		return led[0]
	case len(all) == 1:
		return all[0].Name
	case len(all) > 1:
		p.note("several containers serve: each is held by its own name; --app=NAME says whose requests --app-source counts")
	case len(p.Roles.Of(roles.Worker)) == 1:
		return p.Roles.Of(roles.Worker)[0].Name
	}
	return ""
}

// replaced returns the containers whose own hook gives way: those that the user names, and what a shutdown manager does, which the
// agent does instead. In observe mode everything stays as it is today.
func (p *Plan) replaced(w *manifest.Workload, c roles.Container, o Options) []string {
	i := slices.IndexFunc(p.Roles.Containers, func(one roles.Container) bool { return one.Shutdown })
	if i < 0 || slices.Contains(o.AgentArgs, "--mode=observe") || !hasHook(w.Named(c.Name)) || slices.Contains(o.ReplaceHooks, c.Name) {
		return o.ReplaceHooks
	}
	manager := p.Roles.Containers[i].Name
	if get := w.Named(c.Name).Lifecycle.PreStop.HTTPGet; c.Name == manager || c.Name == p.Proxy.Container && get != nil && strings.HasPrefix(get.Path, "/shutdown") {
		return append(slices.Clone(o.ReplaceHooks), c.Name)
	}
	return o.ReplaceHooks
}

func hasHook(c *corev1.Container) bool { return c.Lifecycle != nil && c.Lifecycle.PreStop != nil }

// stage is a hook's place in the stop order.
func (h *hook) stage() int {
	switch {
	case h.Name == budget.ProxyName, h.role == roles.Helper:
		return 2
	case h.role == roles.Dependency:
		return 1
	}
	return 0
}

// order writes --stop-order; the proxy stands in it also where its hook is not ours.
func (p *Plan) order() string {
	stages := [3][]string{}
	for _, h := range p.Hooks {
		stages[h.stage()] = append(stages[h.stage()], h.Name)
	}
	if p.Proxy.Found() && !slices.Contains(stages[2], budget.ProxyName) {
		stages[2] = append(stages[2], budget.ProxyName)
	}
	var out []string
	for _, one := range stages {
		if len(one) > 0 {
			out = append(out, strings.Join(one, "+"))
		}
	}
	return strings.Join(out, ",")
}
