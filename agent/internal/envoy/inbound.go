package envoy

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// service is one filter chain's end: where its traffic goes and under which names it is counted.
type service struct {
	prefix    string // stat prefix of an HTTP connection manager; "" for TCP and anything else
	clusters  []string
	complete  bool // the clusters are all there can be; false when some are chosen at run time
	redirects bool // answers some requests itself, for real clients
	health    bool // has a health check filter
	tls       bool // passes TLS on without ending it
	upgrades  []upgrade
	routes    string // RDS name of the routes still to be looked up
}

// services returns the ends of l's filter chains: the last filter of a chain is the one that serves.
func (l *listener) services() []service {
	chains := l.Chains
	if l.DefaultChain != nil {
		chains = append(slices.Clone(chains), *l.DefaultChain)
	}
	var all []service
	for _, chain := range chains {
		if len(chain.Filters) > 0 {
			s := serviceOf(&chain.Filters[len(chain.Filters)-1].Config)
			s.tls = chain.passesTLS()
			all = append(all, s)
		}
	}
	return all
}

func serviceOf(f *filterConfig) service {
	switch f.Type {
	case typeTCP:
		clusters, known := oneOf(f.Cluster, f.Weighted)
		return service{clusters: clusters, complete: known}
	case typeHTTP:
		s := service{prefix: statName(f.StatPrefix), routes: f.RDS.Name, upgrades: f.Upgrades}
		for _, filter := range f.HTTPFilters {
			s.health = s.health || strings.HasSuffix(filter.Config.Type, ".HealthCheck")
		}
		if f.Routes != nil {
			s.clusters, s.redirects, s.complete = f.Routes.targets()
			s.upgrades = append(s.upgrades, f.Routes.upgrades()...)
		}
		return s
	default:
		return service{}
	}
}

// resolve fills in the routes that came by RDS.
func (s *service) resolve(routes map[string]*routeConfig) {
	if r := routes[s.routes]; s.routes != "" && r != nil {
		s.clusters, s.redirects, s.complete = r.targets()
		s.upgrades = append(s.upgrades, r.upgrades()...)
	}
}

// served is a listener with what stands behind it.
type served struct {
	*listener
	services []service
}

// destinations says what is known about clusters from their hosts: which lead back to Envoy's own admin interface, and which only to another listener of the same Envoy.
type destinations struct {
	own map[string]bool // Envoy's admin, Istio's agent: health and metrics
	hop map[string]bool // envoy_internal_address: the same request is counted again at its real cluster
}

// own reports whether a listener serves health checks or metrics rather than peers.
func (s served) own(d destinations, lds bool) bool {
	clusters, health, redirects, complete := 0, false, false, true
	for _, svc := range s.services {
		health, redirects, complete = health || svc.health, redirects || svc.redirects, complete && svc.complete
		for _, name := range svc.clusters {
			if !d.own[name] {
				return false
			}
			clusters++
		}
	}
	if !complete || redirects || len(s.services) == 0 {
		return false
	}
	// Without a cluster it answers everything itself: with a health check filter, or beside LDS, that is a readiness listener.
	return clusters > 0 || health || lds && s.static
}

// inbound picks the listeners where peers come in. directed says that some listener states that it is inbound; lds that the traffic's listeners come from a control plane.
func inbound(all []served, d destinations, lds bool) (picked []served, directed bool) {
	peers := slices.DeleteFunc(slices.Clone(all), func(s served) bool { return s.own(d, lds) })
	pick := func(yes func(served) bool) []served {
		return slices.DeleteFunc(slices.Clone(peers), func(s served) bool { return !yes(s) })
	}
	directed = slices.ContainsFunc(all, func(s served) bool { return s.Direction == "INBOUND" })
	if directed {
		return pick(func(s served) bool { return s.Direction == "INBOUND" }), true
	}
	picked = pick(func(s served) bool { return s.Direction != "OUTBOUND" })
	if len(picked) == 0 {
		// Istio's gateways call their listeners outbound. A sidecar for egress only listens on loopback.
		return pick(func(s served) bool { return !s.Address.loopback() }), false
	}
	// Next to listeners that peers can reach, those on loopback are for the pod's own egress.
	if remote := slices.DeleteFunc(slices.Clone(picked), func(s served) bool { return s.Address.loopback() }); len(remote) > 0 {
		return remote, false
	}
	return picked, false
}

// names are the statistics and clusters to read for the picked listeners.
type names struct {
	clusters  []string // sorted
	complete  bool     // no inbound route chooses another cluster at run time
	prefixes  []string // of inbound HTTP connection managers, sorted
	tcp       bool     // some inbound traffic is not HTTP: http gauges do not see it
	shared    bool     // a prefix is used by other listeners too: http gauges cannot be told apart
	mixed     bool     // so is a listener's name in the statistics: all with port 0 on one address share it
	listeners []string // "listener.<address>" of inbound listeners that accept by themselves, sorted
	classes   classes
}

func namesOf(picked, all []served, d destinations) names {
	n := names{complete: true, classes: classes{http: map[string]bool{}, tcp: map[string]string{}}}
	clusters, prefixes, addresses := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, s := range picked {
		if s.accepts() {
			addresses["listener."+s.statAddress()] = true
		}
		for _, svc := range s.services {
			counted := slices.DeleteFunc(slices.Clone(svc.clusters), func(c string) bool { return d.hop[c] || d.own[c] })
			for _, c := range counted {
				clusters[c] = true
			}
			n.complete = n.complete && svc.complete
			n.classes.add(svc, counted)
			switch {
			case len(counted) == 0 && len(svc.clusters) > 0: // only a hop: its tunnels stay open for long
			case svc.prefix != "":
				prefixes[svc.prefix] = true
			default:
				n.tcp = true
			}
		}
	}
	for _, other := range all {
		if slices.ContainsFunc(picked, func(s served) bool { return s.listener == other.listener }) {
			continue
		}
		n.mixed = n.mixed || addresses["listener."+other.statAddress()]
		for _, svc := range other.services {
			n.shared = n.shared || prefixes[svc.prefix]
		}
	}
	n.shared = n.shared || prefixes["admin"]
	n.clusters, n.prefixes, n.listeners = slices.Sorted(maps.Keys(clusters)), slices.Sorted(maps.Keys(prefixes)), slices.Sorted(maps.Keys(addresses))
	return n
}

// accepts reports whether connections arrive at the listener itself: not at internal ones, nor at those that are only handed connections.
func (l *listener) accepts() bool {
	return l.InternalListener == nil && (l.BindToPort == nil || *l.BindToPort)
}

func (l *listener) statAddress() string {
	if l.StatPrefix != "" {
		return statName(l.StatPrefix)
	}
	return statName(l.Address.String())
}

// leadsHome reports whether a host is this Envoy's admin interface, reached by us at admin ("127.0.0.1:15000" or a socket's path).
func leadsHome(admin, ip string, port uint32, pipe string) bool {
	if pipe != "" {
		return pipe == admin
	}
	at, err := netip.ParseAddrPort(strings.Replace(admin, "localhost:", "127.0.0.1:", 1))
	if err != nil {
		return false
	}
	host, err := netip.ParseAddr(ip)
	return err == nil && uint32(at.Port()) == port && (host == at.Addr() || host.IsLoopback() && at.Addr().IsLoopback())
}
