package envoy_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/internal/envoy"
)

const host = `{"address":{"socket_address":{"address":"10.0.0.%d","port_value":80}},"stats":[{"type":"GAUGE","name":"rq_active","value":"%d"}]}`

// appHosts is an answer of /clusters with these hosts of the cluster app.
func appHosts(hosts ...string) string {
	return `{"cluster_statuses":[{"name":"app","host_statuses":[` + strings.Join(hosts, ",") + `]}]}`
}

// TestHostTakenAwayWithARequest: no gauge of a host shows the request any more. It is unknown, until the listeners have no connection
// or for a while that is said.
func TestHostTakenAwayWithARequest(t *testing.T) {
	t.Parallel()
	const conns = "listener.0.0.0.0_8080.downstream_cx_active: %d\n"
	first, other := fmt.Sprintf(host, 1, 1), fmt.Sprintf(host, 2, 0)
	for name, test := range map[string]struct {
		stats string
		end   func(s *server, f fake) // what ends it
	}{
		"connections hidden": {"", func(*server, fake) { time.Sleep(15 * time.Second) }},
		"connections shown": {fmt.Sprintf(conns, 1), func(s *server, f fake) {
			f = maps.Clone(f)
			f["/stats"] = text(fmt.Sprintf(conns, 0))
			s.use(f)
			time.Sleep(time.Second) // the statistics are read each time while nothing is known
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := new(server)
				c := envoy.Over(s)
				s.use(fake{"/stats": text(test.stats), "/clusters": text(appHosts(first, other))})
				describe(t, c)
				if got := c.Sample(t.Context()); got.InFlight != drain.Known(1) {
					t.Fatalf("%+v", got)
				}
				without := fake{"/stats": text(test.stats), "/clusters": text(appHosts(other))}
				s.use(without)
				for range 14 {
					time.Sleep(time.Second)
					got := c.Sample(t.Context())
					if got.InFlight.Known || !strings.Contains(strings.Join(got.Notes, "\n"), "a host of cluster app was taken away") || got.Failure != "" {
						t.Fatalf("%+v", got)
					}
				}
				test.end(s, without)
				if got := c.Sample(t.Context()); got.InFlight != drain.Known(0) || got.Age != 0 {
					t.Errorf("%+v", got)
				}
			})
		})
	}
}

// A request that ends at a host that stays is over, and a host that was idle when it went takes nothing along.
func TestHostThatWasIdleMayGo(t *testing.T) {
	t.Parallel()
	s, c := serve(t, fake{"/stats": text(""), "/clusters": text(appHosts(fmt.Sprintf(host, 1, 1), fmt.Sprintf(host, 2, 0)))})
	describe(t, c)
	until(t, c, "a request", inFlight(1))
	s.use(fake{"/stats": text(""), "/clusters": text(appHosts(fmt.Sprintf(host, 1, 0), fmt.Sprintf(host, 2, 0)))})
	if got := c.Sample(t.Context()); got.InFlight != drain.Known(0) {
		t.Errorf("%+v", got)
	}
	s.use(fake{"/stats": text(""), "/clusters": text(appHosts(fmt.Sprintf(host, 2, 0)))})
	if got := c.Sample(t.Context()); got.InFlight != drain.Known(0) {
		t.Errorf("%+v", got)
	}
}

// TestEndpointReplaced is the same with an Envoy: its control plane moves the cluster elsewhere under a request.
func TestEndpointReplaced(t *testing.T) {
	t.Parallel()
	const clusterType = "config.cluster.v3.Cluster"
	app := startApp(t)
	dir, in := t.TempDir(), freePort(t)
	put(t, dir, "cds", clusterType, cluster("app", app.port, nil))
	more := hidden("listener.")
	more["dynamic_resources"] = obj{"cds_config": from(dir, "cds")}
	_, c := startWith(t, []obj{listener("in", in, "INBOUND", httpFilter("in", obj{"cluster": "app"}, nil))}, nil, more)
	describe(t, c)
	until(t, c, "nothing", inFlight(0))
	conn := app.reach(t, fmt.Sprintf("127.0.0.1:%d", in), "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
	until(t, c, "the request", inFlight(1))
	put(t, dir, "cds", clusterType, cluster("app", freePort(t), nil))
	missed := until(t, c, "a request that nothing shows", func(s envoy.Sample) bool {
		if s.InFlight == drain.Known(0) {
			t.Fatalf("a request is under way: %+v", s)
		}
		return strings.Contains(strings.Join(s.Notes, "\n"), "taken away")
	})
	if missed.InFlight.Known {
		t.Errorf("%+v", missed)
	}
	close(app.release)
	conn.Close()
	until(t, c, "nothing any more", inFlight(0))
}
