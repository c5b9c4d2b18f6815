package envoy

import (
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// view is what Sample knows of one Envoy with one configuration. The zero view is good: nothing is known but the rule for that case.
type view struct {
	Description
	rule  rule
	at    time.Time     // when the look at the configuration began
	took  time.Duration // how long it took
	moved changes       // the configuration's counters before the look

	epoch          uint32        // of the hot restart
	parentShutdown time.Duration // after this long a process ends the one before it

	loaded  string // when the bootstrap was loaded
	classes classes
	blind   bool // some inbound traffic is not HTTP: the http gauges do not see it
	http2   bool // some may be HTTP/2
	pending bool // the bytes that wait for a client's window are shown, once there was one

	stats              []string // to ask for, all of them visible
	http, conns        []string // gauges; nil when some of them are hidden
	upgrades, buffered []string // so are these, and nil when there is none to read
	requests, opened   []string // counters; nil when some of them are hidden
	answered           []string // so are these: requests whose answer has begun
	apart              []string // gauges of filters that are counted by themselves
	uncounted          []string // inbound traffic that nothing counts, and what would
	unlisted           []string // inbound HTTP whose requests only the http gauges show
	missing            []string // paths that Envoy refuses, and what it costs
}

// istioAgentPort is where the cluster "agent" of Istio's bootstrap leads: the health of its own agent.
const istioAgentPort = 15020

// candidates are the listeners that may turn out to be inbound.
func (d *discovery) candidates() []served {
	inboundOnly := slices.ContainsFunc(d.listeners, func(s served) bool { return s.Direction == "INBOUND" })
	return slices.DeleteFunc(slices.Clone(d.listeners), func(s served) bool { return inboundOnly && s.Direction == "OUTBOUND" })
}

// known is what /clusters says about the clusters that listeners lead to.
type known struct {
	destinations
	ports map[string][]uint16
	empty []string            // without a host
	kinds map[string]string   // types of clusters that list no host, where the type is an extension that may have hosts of its own
	leads map[string][]string // clusters that send their traffic to others
}

// choose decides what is inbound and what there is to read.
func (d *discovery) choose() error {
	d.known = known{destinations: destinations{own: map[string]bool{}, hop: map[string]bool{}}, ports: map[string][]uint16{}, kinds: map[string]string{}, leads: map[string][]string{}}
	referenced, complete := make(map[string]bool), !d.unread
	for _, l := range d.candidates() {
		for _, s := range l.services {
			complete = complete && s.complete
			add(referenced, s.clusters)
		}
	}
	if complete {
		d.note(d.readDestinations(clustersPath(slices.Sorted(maps.Keys(referenced))), func(h clusterHead) bool { return referenced[h.name] }))
	} else {
		d.note(d.readDestinations("/clusters?format=json", func(clusterHead) bool { return true }))
	}
	d.note(d.readMembers())
	picked, directed := inbound(d.listeners, d.known.destinations, d.lds)
	n := namesOf(picked, d.listeners, d.known)
	v := d.view
	v.rule = d.newRule(picked, n)
	v.Directed, v.Guessed = directed, !v.rule.complete
	v.blind, v.classes, v.http2 = n.tcp || d.unread, n.classes, n.http2 || d.unread
	d.choosePorts(picked)
	return d.chooseStats(n)
}

func (d *discovery) readDestinations(path string, wanted func(clusterHead) bool) error {
	ours, admin, last := ownAddresses(), homeAt(d.c.host), ""
	err := d.get(path, func(body io.Reader) error {
		return readClusters(body, func(head clusterHead) bool {
			if !wanted(head) {
				return false
			}
			if d.cds = d.cds || head.addedViaAPI; last != "" {
				d.known.empty = append(d.known.empty, last)
			}
			d.heads, last = append(d.heads, head), head.name
			return true
		}, func(name string, h *host) error {
			last = ""
			switch {
			case h.internal:
				d.known.hop[name] = true
			case admin.leads(h), name == "agent" && h.port == istioAgentPort:
				d.known.own[name] = true
			}
			if p := localPort(h.ip, h.port, ours); p != 0 {
				d.known.ports[name] = append(d.known.ports[name], p)
			}
			return nil
		})
	})
	if last != "" {
		d.known.empty = append(d.known.empty, last)
	}
	return err
}

// readMembers looks up what the clusters without hosts are: some send their traffic to other clusters, which count then.
func (d *discovery) readMembers() error {
	var err error
	for asked := map[string]bool{}; len(d.known.empty) > 0 && err == nil; {
		pattern := anyOf(d.known.empty)
		add(asked, d.known.empty)
		d.known.empty = nil
		if len(pattern) > maxQuery {
			pattern = inQuery(".")
		}
		for _, resource := range []string{"static_clusters", "dynamic_active_clusters"} {
			err = d.get("/config_dump?resource="+resource+"&name_regex="+pattern, func(body io.Reader) error {
				return readConfigs(body, func(r struct {
					Cluster struct {
						Name string      `json:"name"`
						Type clusterType `json:"cluster_type"`
					} `json:"cluster"`
				},
				) {
					if !asked[r.Cluster.Name] {
						return
					}
					d.known.learn(r.Cluster.Name, r.Cluster.Type)
					for _, member := range r.Cluster.Type.Config.Names.targets {
						if d.members[member] = true; !asked[member] {
							d.known.empty = append(d.known.empty, member) // it may be of that kind itself
						}
					}
				})
			})
			if err != nil && !d.unread {
				d.known.unread(asked)
			}
		}
	}
	return err
}

func (d *discovery) choosePorts(picked []served) {
	v := d.view
	for _, l := range picked {
		at := l.Address.Socket
		if !l.accepts() || at.Protocol == "UDP" {
			continue
		}
		ports := []uint16{at.Port}
		if at.Port == 0 {
			ports[0] = d.bound[l.Name]
		}
		for _, more := range l.Additional {
			ports = append(ports, more.Address.Socket.Port)
		}
		v.InboundPorts = append(v.InboundPorts, ports...)
	}
	if len(d.listeners) == 0 { // the configuration is not readable; the bound ports are
		for _, port := range d.bound {
			v.InboundPorts = append(v.InboundPorts, port)
		}
	}
	for _, head := range d.heads {
		counts := v.rule.of(head)
		if counts != allHosts && counts != ownHosts || d.known.own[head.name] || d.cds && !head.addedViaAPI && !v.rule.traffic[head.name] {
			continue // a static cluster beside a control plane's is hardly the app
		}
		if ports := d.known.ports[head.name]; len(ports) > 0 {
			v.UpstreamPorts = append(v.UpstreamPorts, ports...)
		} else {
			v.UpstreamPorts = append(v.UpstreamPorts, istioPort(head.name))
		}
	}
	v.InboundPorts, v.UpstreamPorts = tidy(v.InboundPorts), tidy(v.UpstreamPorts)
}

func tidy(ports []uint16) []uint16 {
	slices.Sort(ports)
	return slices.DeleteFunc(slices.Compact(ports), func(p uint16) bool { return p == 0 })
}

// chooseStats finds out which statistics are hidden by a stats_matcher, once: a visible one that Envoy does not print with usedonly was never written, so it is zero.
func (d *discovery) chooseStats(n names) error {
	v := d.view
	v.http, v.requests = suffixed("http.", n.prefixes, ".downstream_rq_active"), suffixed("http.", n.prefixes, ".downstream_rq_total")
	v.answered = suffixed("http.", n.prefixes, ".downstream_rq_completed")
	v.buffered = suffixed("http.", n.prefixes, ".downstream_cx_tx_bytes_buffered")
	if n.classes.upgrade != "" {
		v.upgrades = suffixed("http.", n.prefixes, ".downstream_cx_upgrades_active")
	}
	if n.shared {
		v.http, v.requests, v.answered, v.upgrades, v.buffered = nil, nil, nil, nil, nil
	}
	v.conns, v.opened = suffixed("", n.listeners, ".downstream_cx_active"), suffixed("", n.listeners, ".downstream_cx_total")
	if n.mixed {
		v.conns, v.opened = nil, nil
	}
	var apart []string
	for _, filter := range n.apart {
		apart = append(apart, filter.gauges...)
	}
	groups := []*[]string{&v.http, &v.conns, &v.upgrades, &v.buffered, &v.requests, &v.answered, &v.opened}
	seen, err := d.visible(slices.Concat(v.http, v.conns, v.upgrades, v.buffered, v.requests, v.answered, v.opened, apart))
	for _, group := range groups {
		if slices.ContainsFunc(*group, func(name string) bool { return !seen[name] }) {
			*group = nil
		}
		v.stats = append(v.stats, *group...)
	}
	v.cover(n, seen)
	slices.Sort(v.stats)
	v.stats = slices.Compact(v.stats)
	return err
}

// cover finds for each filter that is counted by itself what counts it.
func (v *view) cover(n names, seen map[string]bool) {
	for _, filter := range n.apart {
		if filter.http && v.http != nil {
			v.unlisted = append(v.unlisted, filter.what)
		} else if first := slices.IndexFunc(filter.gauges, func(gauge string) bool { return seen[gauge] }); first >= 0 {
			v.apart = append(v.apart, filter.gauges[first])
		} else if !filter.byHosts {
			hint := "nothing counts it; stop the pod by a timer"
			if len(filter.gauges) > 0 {
				hint = "let the stats_matcher show " + strings.Join(filter.gauges, " or ")
			}
			if filter.http && !n.shared {
				hint = "let the stats_matcher show http.*.downstream_rq_active"
			}
			v.uncounted = append(v.uncounted, filter.what+": "+hint)
		}
	}
	slices.Sort(v.apart)
	v.apart = slices.Compact(v.apart)
	v.stats = append(v.stats, v.apart...)
}

func suffixed(before string, names []string, after string) []string {
	var all []string
	for _, name := range names {
		all = append(all, before+name+after)
	}
	return all
}

// visible returns which of these statistics Envoy shows.
func (d *discovery) visible(names []string) (map[string]bool, error) {
	seen := map[string]bool{}
	if last := &d.c.shown; len(names) == 0 {
		return seen, nil
	} else if d.view.loaded != "" && last.loaded == d.view.loaded && slices.Equal(last.asked, names) {
		return last.seen, nil // what a process shows stays shown
	}
	for _, usedOnly := range []bool{true, false} { // the cheap question first; it is enough once traffic came
		err := d.get(statsPath(usedOnly, names), func(body io.Reader) error {
			values, err := readStats(body, names)
			for name := range values {
				seen[name] = true
			}
			return err
		})
		if err != nil {
			return seen, err
		}
		if len(seen) == len(names) {
			break
		}
	}
	d.c.shown = shown{d.view.loaded, names, seen}
	return seen, nil
}

// shown remembers which statistics a process shows.
type shown struct {
	loaded string
	asked  []string
	seen   map[string]bool
}

// newView is what is known before anything was read.
func newView() *view {
	return &view{rule: unread(""), blind: true, http2: true}
}

// bytes is what Envoy has still to hand to its clients' sockets. Where HTTP/2 may be spoken and neither the requests nor what waits
// for a client's window can be seen, it is unknown. Envoy makes that gauge with the first connection of HTTP/2.
func (v *view) bytes(values map[string]int64, http drain.Count) drain.Count {
	pending, shown := values[pendingBytes]
	if v.http2 && !shown && !v.pending && !http.Known {
		return drain.Count{}
	}
	return drain.Known(pending + sum(values, v.buffered).N)
}
