package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/drain-agent/drain-agent/agent/budget"
	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// containers reads who there is: hooks, stop order, stop shares, who outlives us.
func (c *config) containers(bad *problems) {
	f, p := c.flags, &c.policy
	stages := map[string]int{}
	var names []string
	for stage, together := range split(f.StopOrder, ",") {
		for _, name := range split(together, "+") {
			if _, twice := stages[name]; twice {
				bad.add("stop-order", f.StopOrder, name+" stands twice", "name each container once")
				continue
			}
			stages[name] = stage
			names = append(names, name)
		}
	}
	hooked := split(f.Hooks, ",")
	for _, name := range hooked {
		if _, ordered := stages[name]; !ordered && name != agentName {
			c.doubts = append(c.doubts, fmt.Sprintf("--hooks names %s, --stop-order does not: it is let go with the first stage", name))
			stages[name] = 0
			names = append(names, name)
		}
	}
	if i := slices.Index(names, agentName); i >= 0 {
		bad.add("stop-order", f.StopOrder, agentName+" is this container and always the last", "leave it out")
		names = slices.Delete(names, i, i+1)
	}
	if len(names)+1 > drain.MaxContainers {
		bad.add("stop-order", f.StopOrder, "too many containers", fmt.Sprintf("at most %d", drain.MaxContainers-1))
	}
	for _, name := range names {
		p.Containers = append(p.Containers, drain.Container{Name: name, Stage: stages[name], Stop: budget.StopShare(name), Proxy: name == proxyName})
	}
	p.Containers = append(p.Containers, drain.Container{Name: agentName, Stage: -1, Agent: true})
	for _, name := range hooked {
		p.Hooks = p.Hooks.With(p.Find(name))
	}
	c.durations(bad, "stop", f.Stop, func(to *drain.Container, d time.Duration) { to.Stop = d })
	c.durations(bad, "observe-sleep", f.ObserveNap, func(to *drain.Container, d time.Duration) { to.Sleep = d })
	for _, name := range split(f.OutlivesMe, ",") {
		if id := p.Find(name); id != drain.Stranger {
			p.Containers[id].Outlives = true
		} else {
			bad.add("outlives-me", f.OutlivesMe, "no container "+name, "name one of --stop-order")
		}
	}
}

// durations reads flags of the form NAME=DURATION.
func (c *config) durations(bad *problems, flag string, given []string, set func(*drain.Container, time.Duration)) {
	for _, one := range given {
		for _, pair := range split(one, ",") {
			name, text, _ := strings.Cut(pair, "=")
			id := c.policy.Find(name)
			d, err := budget.Parse[time.Duration](text)
			switch {
			case err != nil:
				bad.add(flag, pair, "not NAME=DURATION", "write app=5s")
			case id == drain.Stranger:
				bad.add(flag, pair, "no container "+name, "name one of --hooks or --stop-order")
			default:
				set(&c.policy.Containers[id], d)
			}
		}
	}
}

// proxyFirst reports whether the proxy stops before the rest.
func (c *config) proxyFirst() bool {
	id := c.policy.Find(proxyName)
	return id != drain.Stranger && c.policy.Containers[id].Stage == 0 && c.policy.Stages() > 1
}

// split cuts a list, leaving out blanks.
func split(list, by string) []string {
	var parts []string
	for part := range strings.SplitSeq(list, by) {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, part)
		}
	}
	return parts
}
