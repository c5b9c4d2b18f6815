package main

import (
	"fmt"
	"maps"
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
	if f.Proxy == budget.NoProxy { // the defaults name one
		isProxy := func(name string) bool { return name == proxyName }
		names, hooked = slices.DeleteFunc(names, isProxy), slices.DeleteFunc(hooked, isProxy)
	}
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
	names = c.atMost(names)
	for _, name := range names {
		p.Containers = append(p.Containers, drain.Container{Name: name, Stage: stages[name], Stop: budget.StopShare(name), Proxy: name == proxyName})
	}
	p.Containers = append(p.Containers, drain.Container{Name: agentName, Stage: -1, Agent: true})
	for _, name := range hooked {
		if !c.beyond[name] {
			p.Hooks = p.Hooks.With(p.Find(name))
		}
	}
	c.durations(bad, "stop", f.Stop, func(to *drain.Container, d time.Duration) { to.Stop = d })
	c.durations(bad, "observe-sleep", f.ObserveNap, func(to *drain.Container, d time.Duration) { to.Sleep = d })
	for _, name := range split(f.Workers, ",") {
		switch id := p.Find(name); {
		case c.beyond[name]:
		case id == drain.Stranger || p.Containers[id].Agent || p.Containers[id].Proxy:
			bad.add("workers", f.Workers, "no container "+name+" that works", "name those of --stop-order, agent and proxy aside")
		default:
			p.Containers[id].Worker = true
		}
	}
	for _, name := range split(f.OutlivesMe, ",") {
		if id := p.Find(name); id != drain.Stranger {
			p.Containers[id].Outlives = true
		} else if !c.beyond[name] {
			bad.add("outlives-me", f.OutlivesMe, "no container "+name, "name one of --stop-order")
		}
	}
}

// atMost leaves out, loudly, the containers that are more than one agent can tell apart: the last ones, the proxy never and those of
// --exit-with only after all others. Their hooks are held like those of unknown containers, with the first stage.
func (c *config) atMost(names []string) []string {
	const room = drain.MaxContainers - 1 // besides the agent
	if len(names) <= room {
		return names
	}
	c.beyond = map[string]bool{}
	worth := func(name string) int {
		switch {
		case name == proxyName:
			return 2
		case slices.Contains(split(c.flags.ExitWith, ","), name):
			return 1
		}
		return 0
	}
	kept := slices.Clone(names)
	slices.SortStableFunc(kept, func(a, b string) int { return worth(b) - worth(a) })
	for _, name := range kept[room:] {
		c.beyond[name] = true
	}
	kept = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return c.beyond[name] })
	c.doubts = append(c.doubts, fmt.Sprintf("%d containers are more than the %d that one agent tells apart: the hooks of %s are held with the first stage, their sources, watches and shares are not used",
		len(names)+1, drain.MaxContainers, strings.Join(slices.Sorted(maps.Keys(c.beyond)), ", ")))
	return kept
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
			case c.beyond[name]:
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
