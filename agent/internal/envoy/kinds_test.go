package envoy_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/internal/envoy"
)

const (
	noHosts = `{"cluster_statuses":[{"name":"app"},{"name":"other"}]}`
	custom  = `"cluster_type":{"name":"x","typed_config":{"@type":"type.googleapis.com/acme.clusters.v1.Tunnels","pool":"a"}}`
)

// TestClusterTypesThatNobodyKnows list no host: what goes through them is counted by the http gauges or the listener's connections, or
// it is unknown, and the cluster is named.
func TestClusterTypesThatNobodyKnows(t *testing.T) {
	t.Parallel()
	const conns = "listener.0.0.0.0_8080.downstream_cx_active: 3\n"
	aggregate := `"cluster_type":{"name":"x","typed_config":{"@type":"type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig","clusters":["other"]}}`
	tcp := strings.ReplaceAll(static, "http_connection_manager.v3.HttpConnectionManager", "tcp_proxy.v3.TcpProxy")
	tcp = strings.ReplaceAll(tcp, `"stat_prefix":"in","route_config"`, `"stat_prefix":"in","cluster":"app","x"`)
	zero := drain.Known(0)
	redis := strings.ReplaceAll(tcp, "tcp_proxy.v3.TcpProxy", "redis_proxy.v3.RedisProxy")
	for name, test := range map[string]struct {
		listeners, types, stats string
		want                    drain.Count
		named                   string
	}{
		"hidden":                        {static, custom, "", drain.Count{}, "cluster app lists no host (type: acme.clusters.v1.Tunnels): let the stats_matcher show http.*.downstream_rq_active"},
		"the http gauges are shown":     {static, custom, strings.ReplaceAll(stats, ": 2\n", ": 4\n"), drain.Known(4), ""},
		"the http gauges say nothing":   {static, custom, strings.ReplaceAll(stats, ": 2\n", ": 0\n"), zero, ""},
		"the connections are shown":     {static, custom, conns, drain.Known(3), ""},
		"TCP, hidden":                   {tcp, custom, "", drain.Count{}, "listener.0.0.0.0_8080.downstream_cx_active"},
		"TCP, the connections":          {tcp, custom, conns, drain.Known(3), ""},
		"Redis, hidden":                 {redis, custom, "", drain.Count{}, "redis.in.downstream_rq_active or listener.0.0.0.0_8080.downstream_cx_active"},
		"Redis, ordinary and hidden":    {redis, `"type":"EDS"`, "", zero, ""},
		"a type without configuration":  {static, `"cluster_type":{"name":"acme"}`, "", drain.Count{}, "(type: acme)"},
		"chosen at run time":            {strings.ReplaceAll(static, `"cluster":"app"`, `"cluster_header":"x-to"`), custom, "", drain.Count{}, "cluster app lists no host"},
		"an ordinary one without hosts": {static, `"type":"EDS"`, "", zero, ""},
		"Envoy's own, by name":          {static, `"cluster_type":{"name":"envoy.cluster.static"}`, "", zero, ""},
		"Envoy's own, by type":          {static, strings.ReplaceAll(aggregate, `aggregate.v3.ClusterConfig","clusters":["other"]`, `redis.v3.RedisClusterConfig"`), "", zero, ""},
		"one that leads to others":      {static, aggregate, "", zero, ""},
		"one that is not readable":      {static, "-", "", drain.Count{}, "(type: not readable)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dump := text(`{"configs":[{"cluster":{"name":"app",` + test.types + `}}]}`)
			if test.types == "-" {
				dump = code(http.StatusInternalServerError)
			}
			_, c := serve(t, fake{
				"/config_dump?resource=static_listeners": text(test.listeners), "/config_dump?resource=static_clusters": dump,
				"/clusters": text(noHosts), "/stats": text(test.stats),
			})
			describe(t, c)
			for range 2 {
				s := c.Sample(t.Context())
				if notes := strings.Join(s.Notes, "\n"); s.InFlight != test.want || !strings.Contains(notes, test.named) || s.Failure != "" {
					t.Errorf("%+v", s)
				}
			}
		})
	}
}

// TestMemberThatNobodyKnows: an aggregate cluster leads to a type that nobody knows.
func TestMemberThatNobodyKnows(t *testing.T) {
	t.Parallel()
	dump := func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.RawQuery, "other") {
			fmt.Fprint(w, `{"configs":[{"cluster":{"name":"other",`+custom+`}}]}`)
			return
		}
		fmt.Fprint(w, `{"configs":[{"cluster":{"name":"app","cluster_type":{"name":"x","typed_config":{"@type":"type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig","clusters":["other"]}}}}]}`)
	}
	server, c := serve(t, fake{"/config_dump?resource=static_clusters": dump, "/clusters": text(noHosts), "/stats": text("")})
	describe(t, c)
	s := c.Sample(t.Context())
	if s.InFlight.Known || !strings.Contains(strings.Join(s.Notes, "\n"), "cluster other lists no host (type: acme.clusters.v1.Tunnels)") {
		t.Errorf("%+v", s)
	}
	_ = server
}

// TestGaugesThatAloneCount: where only the http gauges show a part of the traffic, a reading without them is unknown.
func TestGaugesThatAloneCount(t *testing.T) {
	t.Parallel()
	dump := text(`{"configs":[{"cluster":{"name":"app",` + custom + `}}]}`)
	server, c := serve(t, fake{"/config_dump?resource=static_clusters": dump, "/clusters": text(noHosts)})
	describe(t, c)
	until(t, c, "the requests", inFlight(2))
	server.use(fake{"/config_dump?resource=static_clusters": dump, "/clusters": text(noHosts), "/stats": code(500)})
	until(t, c, "unknown", func(s envoy.Sample) bool {
		if s.InFlight == drain.Known(0) {
			t.Fatalf("%+v", s)
		}
		return !s.InFlight.Known && strings.Contains(s.Err.Error(), "cluster app")
	})
}
