package envoy

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// The types below are the few fields of Envoy's configuration that tell where traffic comes in and where it goes.
// go-control-plane's own types would need every extension that a listener may carry to be linked in, or they fail to decode; and the
// whole of /server_info, decoded into them every five seconds, took a twentieth of what a drain costs.

const (
	typeHTTP = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
	typeTCP  = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
)

type listener struct {
	Name             string         `json:"name"`
	Address          address        `json:"address"`
	StatPrefix       string         `json:"stat_prefix"`
	Direction        string         `json:"traffic_direction"`
	Chains           []filterChain  `json:"filter_chains"`
	DefaultChain     *filterChain   `json:"default_filter_chain"`
	BindToPort       *bool          `json:"bind_to_port"`
	InternalListener *struct{}      `json:"internal_listener"`
	Additional       []extraAddress `json:"additional_addresses"`
	AccessLog        clusterNames   `json:"access_log"`
	UDP              *struct {
		QUIC *struct{} `json:"quic_options"`
	} `json:"udp_listener_config"`
	ListenerFilters []struct {
		Config filterConfig `json:"typed_config"`
	} `json:"listener_filters"`
	static bool
}

type extraAddress struct {
	Address address `json:"address"`
}

type address struct {
	Socket struct {
		Protocol string `json:"protocol"`
		Address  string `json:"address"`
		Port     uint16 `json:"port_value"`
	} `json:"socket_address"`
	Pipe struct {
		Path string `json:"path"`
	} `json:"pipe"`
}

// String is the address as Envoy writes it in stat names and in /listeners.
func (a address) String() string {
	if a.Pipe.Path != "" {
		return a.Pipe.Path
	}
	if strings.Contains(a.Socket.Address, ":") {
		return fmt.Sprintf("[%s]:%d", a.Socket.Address, a.Socket.Port)
	}
	return fmt.Sprintf("%s:%d", a.Socket.Address, a.Socket.Port)
}

func (a address) loopback() bool {
	ip, err := netip.ParseAddr(a.Socket.Address)
	return err == nil && ip.IsLoopback()
}

type filterChain struct {
	Match struct {
		ServerNames []string `json:"server_names"`
		Transport   string   `json:"transport_protocol"`
	} `json:"filter_chain_match"`
	TransportSocket clusterNames `json:"transport_socket"` // ends TLS here
	Filters         []struct {
		Config filterConfig `json:"typed_config"`
	} `json:"filters"`
}

// passesTLS reports whether the chain's connections are TLS that Envoy does not end.
func (c *filterChain) passesTLS() bool {
	return !c.TransportSocket.there && (len(c.Match.ServerNames) > 0 || c.Match.Transport == "tls")
}

// filterConfig is an HTTP connection manager or a TCP proxy; of any other filter its type, its statistics' prefix and the clusters that it names are known.
type filterConfig struct {
	Type        string
	StatPrefix  string
	Cluster     string
	Weighted    weightedClusters
	Routes      *routeConfig
	RDS         routeSource
	Codec       string // of an HTTP connection manager; "" is AUTO
	Upgrades    []upgrade
	HTTPFilters []httpFilter
	Names       clusterNames // what stands in the fields that are not read one by one
}

type httpFilter struct {
	Config namedConfig `json:"typed_config"`
}

// namedConfig is an extension of which the type and the clusters that it names are known.
type namedConfig struct {
	Type  string
	Names clusterNames
}

func (c *namedConfig) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	return members(dec, func(name string) error {
		if name == "@type" {
			return json.UnmarshalDecode(dec, &c.Type)
		}
		return c.Names.member(dec, name)
	})
}

// UnmarshalJSONFrom reads the fields of the two filters we know; @type stands first in what Envoy prints. Fields of other filters may have these names and other shapes.
func (f *filterConfig) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	fields := map[string]any{
		"cluster": &f.Cluster, "weighted_clusters": &f.Weighted, "codec_type": &f.Codec,
		"route_config": &f.Routes, "rds": &f.RDS, "upgrade_configs": &f.Upgrades, "http_filters": &f.HTTPFilters,
	}
	return members(dec, func(name string) error {
		into, known := fields[name]
		switch {
		case name == "@type":
			return json.UnmarshalDecode(dec, &f.Type)
		case name == "stat_prefix" && dec.PeekKind() == '"':
			return json.UnmarshalDecode(dec, &f.StatPrefix)
		case known && (f.Type == typeHTTP || f.Type == typeTCP):
			return json.UnmarshalDecode(dec, into)
		default:
			return f.Names.member(dec, name)
		}
	})
}

// members calls each for every member of the object that comes next; each must consume the value. Anything but an object is skipped.
func members(dec *jsontext.Decoder, each func(name string) error) error {
	if dec.PeekKind() != '{' {
		return dec.SkipValue()
	}
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	for dec.PeekKind() == '"' {
		token, err := dec.ReadToken()
		if err != nil {
			return err
		}
		if err := each(token.String()); err != nil {
			return err
		}
	}
	_, err := dec.ReadToken()
	return err
}

type weightedClusters struct {
	Clusters []struct {
		Name string `json:"name"`
	} `json:"clusters"`
}

type routeSource struct {
	Name string `json:"route_config_name"`
}

type routeConfig struct {
	Name  string        `json:"name"`
	Hosts []virtualHost `json:"virtual_hosts"`
	VHDS  *struct{}     `json:"vhds"`
}

type virtualHost struct {
	Matcher *struct{} `json:"matcher"`
	Routes  []route   `json:"routes"`
}

type route struct {
	To *struct {
		Cluster  string           `json:"cluster"`
		Weighted weightedClusters `json:"weighted_clusters"`
		Upgrades []upgrade        `json:"upgrade_configs"`
		Mirrors  clusterNames     `json:"request_mirror_policies"`
	} `json:"route"`
	Redirect *struct{} `json:"redirect"`
}

// upgrade allows one kind of upgrade: "websocket", "CONNECT", …
type upgrade struct {
	Type string `json:"upgrade_type"`
}

// upgrades returns the kinds of upgrade that single routes allow.
func (r *routeConfig) upgrades() (all []upgrade) {
	for _, host := range r.Hosts {
		for _, route := range host.Routes {
			if route.To != nil {
				all = append(all, route.To.Upgrades...)
			}
		}
	}
	return all
}

// mirrors returns the clusters that get copies of requests, which nobody waits for.
func (r *routeConfig) mirrors() (all []string) {
	for _, host := range r.Hosts {
		for _, route := range host.Routes {
			if route.To != nil {
				all = append(all, route.To.Mirrors.all()...)
			}
		}
	}
	return all
}

// targets returns the clusters that these routes lead to; complete is false when some route chooses its cluster at run time.
func (r *routeConfig) targets() (clusters []string, redirects, complete bool) {
	complete = r.VHDS == nil
	for _, host := range r.Hosts {
		complete = complete && host.Matcher == nil
		for _, route := range host.Routes {
			redirects = redirects || route.Redirect != nil
			if route.To == nil {
				continue
			}
			names, known := oneOf(route.To.Cluster, route.To.Weighted)
			clusters = append(clusters, names...)
			complete = complete && known
		}
	}
	slices.Sort(clusters)
	return slices.Compact(clusters), redirects, complete
}

// oneOf returns the cluster or the weighted clusters; known is false when one of them is named at run time.
func oneOf(cluster string, weighted weightedClusters) (names []string, known bool) {
	if cluster != "" {
		return []string{cluster}, true
	}
	known = len(weighted.Clusters) > 0
	for _, w := range weighted.Clusters {
		if known = known && w.Name != ""; w.Name != "" {
			names = append(names, w.Name)
		}
	}
	return names, known
}

// readConfigs decodes the resources of a /config_dump reply one at a time.
func readConfigs[T any](body io.Reader, each func(T)) error { return readArray(body, "configs", each) }

// readArray decodes the items of the array that a reply has under this name one at a time.
func readArray[T any](body io.Reader, array string, each func(T)) error {
	s := newStream(body, maxConfig)
	err := s.object(func(name string) error {
		if name != array {
			return s.skip()
		}
		return s.array(func() error {
			var item T
			if err := s.value(&item); err != nil {
				return err
			}
			each(item)
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", array, err)
	}
	return s.end()
}
