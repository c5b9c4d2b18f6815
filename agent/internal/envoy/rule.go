package envoy

import (
	"slices"
	"strings"
)

// rule says which clusters' hosts count as traffic. It is applied to every answer of /clusters, so that a cluster that came a moment
// ago is judged too.
type rule struct {
	read     bool // the listeners could be read
	cds      bool // clusters come from a control plane
	sidecar  bool // the pod's own egress passes this Envoy too
	istio    bool // … and its clusters have Istio's names
	complete bool // no inbound route chooses its cluster at run time

	traffic  map[string]bool // named by inbound listeners
	outbound map[string]bool // named by outbound listeners
	errands  map[string]bool // named where Envoy calls somebody for itself
	asked    map[string]bool // asked about inbound requests while these wait
}

// share is which of a cluster's hosts count.
type share uint8

const (
	noHost   share = iota
	ownHosts       // those that lead into this pod
	allHosts
	askedHosts // all, but beside the rest: a request waits here before it has another host
)

// of says which hosts of a cluster count.
func (r *rule) of(head clusterHead) share {
	name := head.name
	switch {
	case r.traffic[name]:
		return allHosts
	case r.asked[name]:
		return askedHosts
	case r.errands[name]:
		return noHost
	case strings.HasPrefix(strings.ToLower(name), "inbound"), strings.HasPrefix(name, "DFPCluster:"):
		return allHosts
	case r.istio && r.complete, r.outbound[name] && r.sidecar:
		return noHost
	case r.read && r.sidecar && r.complete:
		return ownHosts
	case r.cds && !head.addedViaAPI && (r.complete || !r.read):
		return ownHosts // beside a control plane's clusters, those that no listener names are its own, and telemetry's
	default:
		return allHosts
	}
}

// newRule takes the rule from the listeners: what is picked is inbound.
func (d *discovery) newRule(picked []served, n names) rule {
	r := rule{
		read: !d.unread, cds: d.cds, complete: n.complete && !d.unread,
		traffic: map[string]bool{}, outbound: map[string]bool{}, errands: map[string]bool{}, asked: map[string]bool{},
	}
	for _, l := range d.listeners {
		in := slices.ContainsFunc(picked, func(s served) bool { return s.listener == l.listener })
		egress := l.Direction == "OUTBOUND" || l.Direction == "" && l.Address.loopback()
		r.sidecar = r.sidecar || !in && egress && !l.own(d.known.destinations, d.lds)
		for _, s := range l.services {
			switch {
			case in:
				add(r.traffic, s.clusters)
				add(r.asked, s.asked)
			case egress:
				add(r.outbound, s.clusters)
				add(r.errands, s.asked)
			}
			add(r.errands, s.errands)
		}
	}
	add(r.errands, d.errands)
	r.istio = strings.HasPrefix(d.nodeID, "sidecar~") && r.sidecar
	for member := range d.members {
		r.traffic[member] = true
	}
	return r
}

func add(to map[string]bool, names []string) {
	for _, name := range names {
		to[name] = true
	}
}

// unread is the rule while nothing is known of the configuration.
func unread(nodeID string) rule {
	return rule{istio: strings.HasPrefix(nodeID, "sidecar~")}
}
