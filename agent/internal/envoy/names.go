package envoy

import (
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// clusterNames are the names of clusters that stand somewhere in a configuration whose shape is not known otherwise: those that
// traffic may be sent to, and those of services that Envoy calls for itself (access logs, tracing, xDS, authorization, …).
type clusterNames struct {
	targets, services []string
	there             bool // something stands there
}

func (n *clusterNames) all() []string { return slices.Concat(n.targets, n.services) }

// UnmarshalJSONFrom collects the names from any JSON value.
func (n *clusterNames) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	n.there = true
	return n.walk(dec, "", false)
}

// member collects the names in a configuration's field.
func (n *clusterNames) member(dec *jsontext.Decoder, field string) error {
	return n.walk(dec, field, servesEnvoy(field))
}

// walk collects the names in the value that comes next, which is called key; service says that it stands inside a service's configuration.
func (n *clusterNames) walk(dec *jsontext.Decoder, key string, service bool) error {
	switch dec.PeekKind() {
	case '{':
		return members(dec, func(name string) error {
			inner := name
			if name == "name" && strings.HasSuffix(key, "clusters") { // weighted_clusters: {clusters: [{name: …}]}
				inner = key
			}
			return n.walk(dec, inner, service || servesEnvoy(name))
		})
	case '[':
		if _, err := dec.ReadToken(); err != nil {
			return err
		}
		for kind := dec.PeekKind(); kind != ']' && kind != 0; kind = dec.PeekKind() {
			if err := n.walk(dec, key, service); err != nil {
				return err
			}
		}
		_, err := dec.ReadToken()
		return err
	case '"':
		token, err := dec.ReadToken()
		if err != nil || !namesClusters(key) {
			return err
		}
		if service {
			n.services = append(n.services, token.String())
		} else {
			n.targets = append(n.targets, token.String())
		}
		return nil
	default:
		return dec.SkipValue()
	}
}

// namesClusters reports whether a field of this name holds names of clusters, as Envoy's API calls them.
func namesClusters(field string) bool {
	return field == "cluster" || field == "clusters" || strings.HasSuffix(field, "_cluster") ||
		strings.HasSuffix(field, "cluster_name") || strings.HasSuffix(field, "cluster_names")
}

// servesEnvoy reports whether a field of this name configures something that Envoy calls for itself.
func servesEnvoy(field string) bool {
	switch field {
	case "access_log", "api_config_source", "http_uri", "request_mirror_policies", "server_uri", "tracing", "transport_socket", "uri":
		return true
	}
	return strings.HasSuffix(field, "_service") || strings.HasSuffix(field, "_grpc")
}
