package envoy

import (
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
)

// view is what Sample has to read of one Envoy with one configuration.
type view struct {
	loaded                      string // when the bootstrap was loaded
	sum                         uint64 // checksum of /listeners
	inboundPorts, upstreamPorts []uint16
	directed, guessed           bool

	clusters     map[string]bool // inbound; true: was there, so its absence is news
	clustersPath string
	classes      classes
	blind        bool // some inbound traffic is not HTTP: the http gauges do not see it

	gauges, counters []string // to ask for, all of them visible
	http, conns      []string // gauges; nil when some of them are hidden
	upgrades         []string // so are these, and nil when none is allowed
	requests, opened []string // counters; nil when some of them are hidden
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
	viaAPI map[string]bool // every cluster seen; true: came by CDS
	ports  map[string][]uint16
}

// choose decides what is inbound and what there is to read.
func (d *discovery) choose() error {
	referenced := make(map[string]bool)
	guess := d.view.guessed
	for _, l := range d.candidates() {
		for _, s := range l.services {
			guess = guess || !s.complete
			for _, name := range s.clusters {
				referenced[name] = true
			}
		}
	}
	k, err := d.readDestinations(referenced, guess)
	if err != nil {
		return err
	}
	picked, directed := inbound(d.listeners, k.destinations, d.lds)
	n := namesOf(picked, d.listeners, k.destinations)
	d.view.directed = directed
	if d.view.guessed = d.view.guessed || !n.complete; d.view.guessed {
		n.clusters = slices.Concat(n.clusters, d.guess(k))
	}
	d.chooseClusters(n, k)
	d.choosePorts(picked, n, k)
	return d.chooseStats(n)
}

func (d *discovery) readDestinations(referenced map[string]bool, all bool) (known, error) {
	k := known{
		destinations: destinations{own: map[string]bool{}, hop: map[string]bool{}},
		viaAPI:       map[string]bool{}, ports: map[string][]uint16{},
	}
	path := "/clusters?format=json"
	if !all {
		path = clustersPath(slices.Sorted(maps.Keys(referenced)))
	}
	ours := ownAddresses()
	wanted := func(head clusterHead) bool {
		if all || referenced[head.name] {
			k.viaAPI[head.name] = head.addedViaAPI
			return true
		}
		return false
	}
	return k, allowed(d.get(path, func(body io.Reader) error {
		return readClusters(body, wanted, func(name string, h *adminv3.HostStatus) error {
			at := h.GetAddress()
			ip, port := at.GetSocketAddress().GetAddress(), at.GetSocketAddress().GetPortValue()
			switch {
			case at.GetEnvoyInternalAddress() != nil:
				k.hop[name] = true
			case leadsHome(d.c.host, ip, port, at.GetPipe().GetPath()), name == "agent" && port == istioAgentPort:
				k.own[name] = true
			}
			if p := localPort(ip, port, ours); p != 0 {
				k.ports[name] = append(k.ports[name], p)
			}
			return nil
		})
	}))
}

// guess returns the clusters that may get inbound traffic when the configuration does not tell.
func (d *discovery) guess(k known) []string {
	outbound, istio, viaAPI := map[string]bool{}, false, false
	for _, l := range d.listeners {
		for _, s := range l.services {
			for _, name := range s.clusters {
				outbound[name] = outbound[name] || l.Direction == "OUTBOUND"
			}
		}
	}
	for name, byCDS := range k.viaAPI {
		istio, viaAPI = istio || strings.HasPrefix(name, "inbound|"), viaAPI || byCDS
	}
	var names []string
	for name, byCDS := range k.viaAPI {
		switch {
		case k.own[name] || k.hop[name] || outbound[name]:
		case istio && !strings.HasPrefix(strings.ToLower(name), "inbound"):
		case viaAPI && !byCDS: // with a control plane, static clusters are its own and telemetry's: their streams never end
		default:
			names = append(names, name)
		}
	}
	return names
}

func (d *discovery) chooseClusters(n names, k known) {
	d.view.clusters = make(map[string]bool)
	for _, name := range n.clusters {
		_, there := k.viaAPI[name]
		d.view.clusters[name] = there
	}
	d.view.blind, d.view.classes = n.tcp, n.classes
	d.view.clustersPath = clustersPath(slices.Sorted(maps.Keys(d.view.clusters)))
}

func (d *discovery) choosePorts(picked []served, n names, k known) {
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
		d.view.inboundPorts = append(d.view.inboundPorts, ports...)
	}
	if len(d.listeners) == 0 { // the configuration is not readable; the bound ports are
		d.view.inboundPorts = slices.Collect(maps.Values(d.bound))
	}
	for _, name := range n.clusters {
		if len(k.ports[name]) == 0 {
			k.ports[name] = []uint16{istioPort(name)}
		}
		d.view.upstreamPorts = append(d.view.upstreamPorts, k.ports[name]...)
	}
	d.view.inboundPorts, d.view.upstreamPorts = tidy(d.view.inboundPorts), tidy(d.view.upstreamPorts)
}

func tidy(ports []uint16) []uint16 {
	slices.Sort(ports)
	return slices.DeleteFunc(slices.Compact(ports), func(p uint16) bool { return p == 0 })
}

// chooseStats finds out which statistics are hidden by a stats_matcher, once: a visible one that Envoy does not print with usedonly was never written, so it is zero.
func (d *discovery) chooseStats(n names) error {
	v := d.view
	v.http, v.requests = suffixed("http.", n.prefixes, ".downstream_rq_active"), suffixed("http.", n.prefixes, ".downstream_rq_total")
	if n.classes.upgrade != "" {
		v.upgrades = suffixed("http.", n.prefixes, ".downstream_cx_upgrades_active")
	}
	if n.shared {
		v.http, v.requests, v.upgrades = nil, nil, nil
	}
	v.conns, v.opened = suffixed("", n.listeners, ".downstream_cx_active"), suffixed("", n.listeners, ".downstream_cx_total")
	if n.mixed {
		v.conns, v.opened = nil, nil
	}
	var err error
	if v.gauges, err = d.visible("Gauges", &v.http, &v.conns, &v.upgrades); err != nil {
		return err
	}
	v.counters, err = d.visible("Counters", &v.requests, &v.opened)
	return err
}

func suffixed(before string, names []string, after string) []string {
	var all []string
	for _, name := range names {
		all = append(all, before+name+after)
	}
	return all
}

// visible empties each of the groups that Envoy hides a part of and returns what is left to ask for.
func (d *discovery) visible(kind string, groups ...*[]string) ([]string, error) {
	var names []string
	for _, group := range groups {
		names = append(names, *group...)
	}
	if len(names) == 0 {
		return nil, nil
	}
	seen := map[string]int64{}
	for _, usedOnly := range []bool{true, false} { // the cheap question first; it is enough once traffic came
		var err error
		err = d.get(statsPath(kind, usedOnly, names), func(body io.Reader) error {
			seen, err = readStats(body, names)
			return err
		})
		if kind := FailureOf(err); kind == Refused || kind == Timeout {
			return nil, err
		}
		if err != nil || len(seen) == len(names) {
			break
		}
	}
	var left []string
	for _, group := range groups {
		if slices.ContainsFunc(*group, func(name string) bool { _, ok := seen[name]; return !ok }) {
			*group = nil
		}
		left = append(left, *group...)
	}
	return left, nil
}

// look remembers when the listeners were compared last.
type look struct {
	sum uint64
	at  time.Time
}
