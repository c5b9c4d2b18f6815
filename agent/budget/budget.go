// Package budget is what programs beside the agent may know of its policy: how a grace period is divided, from which
// defaults and presets. The agent itself computes with the same code, so that nobody can tell a pod something else
// than the agent will do in it.
package budget

import (
	"fmt"
	"strings"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/secret"
)

// Types of the agent's core. [Policy.Budget] divides a grace period.
type (
	Policy    = drain.Policy
	Container = drain.Container
	Budget    = drain.Budget
)

// AgentName is what hooks and flags call the agent itself; ProxyName what they call the Envoy; AppName the main workload.
const (
	AgentName = "agent"
	ProxyName = "proxy"
	AppName   = "app"
)

// NoProxy is the value of --proxy of a pod without an Envoy.
const NoProxy = "none"

// MaxContainers is how many containers, the agent's own counted, one agent can hold.
const MaxContainers = drain.MaxContainers

// Defaults returns the policy of the flags' defaults, for the usual pod of app, proxy and agent.
func Defaults() Policy { return drain.Defaults() }

// StopShare is the part of the grace period between a container's SIGTERM and its end where --stop does not name it.
func StopShare(container string) time.Duration {
	if container == AppName {
		return 5 * time.Second
	}
	return 2 * time.Second
}

// FromArgs reads what matters to the budget from the arguments of "drain-agent run", as a pod has them. Flags that say
// nothing about time are passed over. The error names every value that could not be read.
func FromArgs(args []string) (Policy, error) {
	p := Defaults()
	given := flags(args)
	preset, ok := Find(last(given["preset"], "kube-proxy"))
	if !ok {
		return p, fmt.Errorf("read agent arguments: --preset=%s is unknown; write %s", secret.Hide(last(given["preset"], "")), strings.Join(Names(), ", "))
	}
	p.Propagation, p.AnnounceMax = preset.Propagation, preset.AnnounceMax
	p.QuietMin, p.QuietMax = preset.QuietMin, preset.QuietMax
	var bad []string
	for name, to := range map[string]*time.Duration{
		"grace-period": &p.Grace, "margin": &p.Margin, "confirm-window": &p.ConfirmWindow, "settle": &p.Settle,
		"propagation": &p.Propagation, "announce-max": &p.AnnounceMax, "quiet-min": &p.QuietMin, "quiet-max": &p.QuietMax,
		"drain-max": &p.DrainMax,
	} {
		if text := last(given[name], ""); text != "" {
			d, err := Parse[time.Duration](text)
			if err != nil {
				bad = append(bad, "--"+name+"="+secret.Hide(text))
				continue
			}
			*to = d
		}
	}
	bad = append(bad, containers(&p, given)...)
	if len(bad) > 0 {
		return p, fmt.Errorf("read agent arguments: %s: not a duration; write 1500ms, 30s or NAME=5s", strings.Join(bad, ", "))
	}
	return p, nil
}

// containers fills in who there is, stage by stage, and their stop shares.
func containers(p *Policy, given map[string][]string) (bad []string) {
	p.Containers = nil
	proxied := last(given["proxy"], "") != NoProxy
	for stage, together := range strings.Split(last(given["stop-order"], "app,proxy"), ",") {
		for name := range strings.SplitSeq(together, "+") {
			if name = strings.TrimSpace(name); name != "" && (name != ProxyName || proxied) && len(p.Containers) < MaxContainers-1 {
				p.Containers = append(p.Containers, Container{Name: name, Stage: stage, Stop: StopShare(name), Proxy: name == ProxyName})
			}
		}
	}
	p.Containers = append(p.Containers, Container{Name: AgentName, Stage: -1, Agent: true})
	for _, share := range given["stop"] {
		for pair := range strings.SplitSeq(share, ",") {
			name, text, _ := strings.Cut(strings.TrimSpace(pair), "=")
			d, err := Parse[time.Duration](text)
			id := p.Find(name)
			if err != nil {
				bad = append(bad, "--stop="+secret.Hide(pair))
			} else if int(id) < len(p.Containers) {
				p.Containers[id].Stop = d
			}
		}
	}
	return bad
}

// Flag returns the last value of a flag among a container's arguments, written --name=value or --name value.
func Flag(args []string, name string) (string, bool) {
	all := flags(args)[name]
	if len(all) == 0 {
		return "", false
	}
	return all[len(all)-1], true
}

// flags returns the values of each flag; below "" what is neither a flag nor a flag's value.
func flags(args []string) map[string][]string {
	given := map[string][]string{}
	for i := 0; i < len(args); i++ {
		name, isFlag := strings.CutPrefix(args[i], "--")
		if !isFlag {
			given[""] = append(given[""], args[i])
			continue
		}
		name, text, joined := strings.Cut(name, "=")
		if !joined && Flags()[name] != BoolText && i+1 < len(args) && !strings.HasPrefix(args[i+1], "--") {
			i++
			text = args[i]
		}
		given[name] = append(given[name], text)
	}
	return given
}

// last returns the value that counts, the last, or what holds without one.
func last(values []string, without string) string {
	if len(values) == 0 {
		return without
	}
	return values[len(values)-1]
}
