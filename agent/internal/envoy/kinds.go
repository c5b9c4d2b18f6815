package envoy

import (
	"fmt"
	"slices"
	"strings"
)

// clusterType is the type of a cluster where it is an extension.
type clusterType struct {
	Name   string      `json:"name"`
	Config namedConfig `json:"typed_config"`
}

// learn takes note of a cluster that lists no host. Envoy's own types list the hosts that their traffic stands at, or name the clusters
// that it goes on to; of any other type nobody knows.
func (k *known) learn(cluster string, t clusterType) {
	k.leads[cluster] = t.Config.Names.targets
	if len(t.Config.Names.targets) > 0 || t.ownHosts() {
		return
	}
	if k.kinds[cluster] = t.Name; t.Config.Type != "" {
		k.kinds[cluster] = t.Config.Type[strings.LastIndexByte(t.Config.Type, '/')+1:]
	}
}

// ownHosts reports whether all that the type's traffic stands at is listed at the cluster itself, or is at no host at all.
func (t *clusterType) ownHosts() bool {
	switch shortType(t.Config.Type) {
	case "", "Empty", "Struct": // then the name decides
		return t.Name == "" || strings.HasPrefix(t.Name, "envoy.cluster.")
	}
	_, own, _ := strings.Cut(t.Config.Type, "/envoy.extensions.clusters.")
	kind, _, _ := strings.Cut(own, ".")
	return slices.Contains([]string{"aggregate", "composite", "dns", "dynamic_forward_proxy", "redis"}, kind)
}

// unread takes note of clusters whose type could not be read.
func (k *known) unread(asked map[string]bool) {
	for cluster := range asked {
		if _, read := k.leads[cluster]; !read {
			k.kinds[cluster] = "not readable"
		}
	}
}

// unlisted returns a cluster of this service whose traffic may stand at no listed host, "" when there is none.
func (k *known) unlisted(s service) string {
	todo := slices.Clone(s.clusters)
	if !s.complete { // it may be any
		for cluster := range k.kinds {
			todo = append(todo, cluster)
		}
		slices.Sort(todo)
	}
	for seen := map[string]bool{}; len(todo) > 0; todo = todo[1:] {
		if k.kinds[todo[0]] != "" {
			return todo[0]
		}
		if !seen[todo[0]] {
			todo = append(todo, k.leads[todo[0]]...)
		}
		seen[todo[0]] = true
	}
	return ""
}

// hostless says what counts traffic that may stand at no listed host: the http gauges, the filter's own, or the listener's connections.
func (s served) hostless(svc service, cluster, kind string) counted {
	c := counted{what: fmt.Sprintf("listener %s: cluster %s lists no host (type: %s)", s.Name, cluster, kind), http: svc.prefix != ""}
	if svc.gauge != "" {
		c.gauges = append(c.gauges, svc.gauge)
	}
	if s.accepts() {
		c.gauges = append(c.gauges, "listener."+s.statAddress()+".downstream_cx_active")
	}
	return c
}
