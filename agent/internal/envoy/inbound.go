package envoy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// service is one filter chain's end: where its traffic goes and under which names it is counted.
type service struct {
	prefix    string   // stat prefix of an HTTP connection manager; "" for TCP and anything else
	filter    string   // type of a filter that is neither, such as "RedisProxy"
	gauge     string   // what counts its requests or sessions, where such a gauge is known
	clusters  []string // that its traffic goes to
	asked     []string // that are asked about a request before it goes there: ext_authz, rate limits, ext_proc
	errands   []string // that Envoy calls for itself
	complete  bool     // the clusters are all there can be; false when some are chosen at run time
	redirects bool     // answers some requests itself, for real clients
	health    bool     // has a health check filter
	tls       bool     // passes TLS on without ending it
	http2     bool     // may speak HTTP/2 or HTTP/3 with its clients
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
		if last := len(chain.Filters) - 1; last >= 0 {
			s := serviceOf(&chain.Filters[last].Config)
			s.tls = chain.passesTLS()
			s.errands = append(s.errands, chain.TransportSocket.all()...)
			for _, before := range chain.Filters[:last] {
				s.before(before.Config.Type, before.Config.Names)
			}
			all = append(all, s)
		}
	}
	for _, filter := range l.ListenerFilters {
		if shortType(filter.Config.Type) == "UdpProxyConfig" {
			all = append(all, serviceOf(&filter.Config))
		}
	}
	if len(all) > 0 {
		all[0].errands = append(all[0].errands, l.AccessLog.all()...)
	}
	return all
}

// shortType is the last part of a type's URL: "RedisProxy".
func shortType(url string) string { return url[strings.LastIndexByte(url, '.')+1:] }

// ownGauges say how many requests or sessions a filter has, by its type. %s is the prefix of its statistics.
var ownGauges = map[string]string{
	"RedisProxy":     "redis.%s.downstream_rq_active",
	"ThriftProxy":    "thrift.%s.request_active",
	"DubboProxy":     "dubbo.%s.request_active",
	"RocketmqProxy":  "rocketmq.%s.request_active",
	"GenericProxy":   "generic_proxy.%s.downstream_rq_active",
	"UdpProxyConfig": "udp.%s.downstream_sess_active",
}

func serviceOf(f *filterConfig) service {
	switch f.Type {
	case typeTCP:
		clusters, known := oneOf(f.Cluster, f.Weighted)
		return service{clusters: append(clusters, f.Names.targets...), errands: f.Names.services, complete: known}
	case typeHTTP:
		s := service{prefix: statName(f.StatPrefix), routes: f.RDS.Name, upgrades: f.Upgrades, errands: f.Names.all(), http2: f.Codec != "HTTP1"}
		for _, filter := range f.HTTPFilters {
			s.health = s.health || strings.HasSuffix(filter.Config.Type, ".HealthCheck")
			s.before(filter.Config.Type, filter.Config.Names)
		}
		if f.Routes != nil {
			s.take(f.Routes)
		}
		return s
	default:
		s := service{filter: shortType(f.Type), clusters: f.Names.targets, errands: f.Names.services, complete: true}
		if gauge := ownGauges[s.filter]; gauge != "" && f.StatPrefix != "" {
			s.gauge = fmt.Sprintf(gauge, statName(f.StatPrefix))
		}
		return s
	}
}

// before takes the clusters that a filter asks before a request or connection goes on. Calls that belong to one request end with it;
// every other filter's are Envoy's own.
func (s *service) before(filterType string, names clusterNames) {
	switch short := shortType(filterType); {
	case strings.HasPrefix(short, "ExtAuthz"), short == "RateLimit", short == "ExternalProcessor":
		s.asked = append(s.asked, names.all()...)
	default:
		s.errands = append(s.errands, names.all()...)
	}
}

func (s *service) take(r *routeConfig) {
	s.clusters, s.redirects, s.complete = r.targets()
	s.upgrades = append(s.upgrades, r.upgrades()...)
	s.errands = append(s.errands, r.mirrors()...)
}

// resolve fills in the routes that came by RDS.
func (s *service) resolve(routes map[string]*routeConfig) {
	if r := routes[s.routes]; s.routes != "" && r != nil {
		s.take(r)
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
	http2     bool     // some of it may be HTTP/2
	shared    bool     // a prefix is used by other listeners too: http gauges cannot be told apart
	mixed     bool     // so is a listener's name in the statistics: all with port 0 on one address share it
	listeners []string // "listener.<address>" of inbound listeners that accept by themselves, sorted
	classes   classes
	apart     []counted // filters whose requests hosts and http gauges do not count
}

// counted is a filter that is counted by itself: by its own gauge, else by its listener's connections.
type counted struct {
	what    string   // "listener redis: RedisProxy"
	gauges  []string // in order of preference; the first that is visible is read
	byHosts bool     // hosts count its requests too, so that nothing is lost without a gauge
	http    bool     // so do the http gauges
}

func namesOf(picked, all []served, d known) names {
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
			n.http2 = n.http2 || svc.http2
			n.classes.add(svc, counted)
			switch {
			case svc.filter != "":
				n.apart, n.tcp = append(n.apart, s.countedApart(svc)), true
			case len(counted) == 0 && len(svc.clusters) > 0: // only a hop: its tunnels stay open for long
			case svc.prefix != "":
				prefixes[svc.prefix] = true
			default:
				n.tcp = true
			}
			if cluster := d.unlisted(svc); cluster != "" { // Redis too: its hosts do not count all of it then
				n.apart = append(n.apart, s.hostless(svc, cluster, d.kinds[cluster]))
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

// countedApart says what counts the requests or sessions of a filter that is neither HTTP nor TCP.
func (s served) countedApart(svc service) counted {
	c := counted{what: fmt.Sprintf("listener %s: %s", s.Name, svc.filter), byHosts: svc.filter == "RedisProxy"}
	if svc.gauge != "" {
		c.gauges = append(c.gauges, svc.gauge)
	}
	if svc.filter != "UdpProxyConfig" && s.accepts() { // datagrams open no connection
		c.gauges = append(c.gauges, "listener."+s.statAddress()+".downstream_cx_active")
	}
	return c
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

// home is where Envoy's admin interface is: an address or a socket's path.
type home struct {
	addr netip.AddrPort
	path string
}

func homeAt(admin string) home {
	addr, _ := netip.ParseAddrPort(strings.Replace(admin, "localhost:", "127.0.0.1:", 1)) // a path is none
	return home{addr, admin}
}

// leads reports whether a host is this Envoy's admin interface.
func (a home) leads(h *host) bool {
	if h.pipe != "" {
		return h.pipe == a.path
	}
	if h.port == 0 || uint32(a.addr.Port()) != h.port {
		return false
	}
	ip, err := netip.ParseAddr(h.ip)
	return err == nil && (ip == a.addr.Addr() || ip.IsLoopback() && a.addr.Addr().IsLoopback())
}
