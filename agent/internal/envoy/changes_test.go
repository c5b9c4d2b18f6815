package envoy_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/internal/envoy"
	"github.com/drain-agent/drain-agent/scripts/envoy/envoytest"
)

// put replaces a file of resources as Envoy expects it: by a rename.
func put(t *testing.T, dir, name, typ string, resources ...obj) {
	t.Helper()
	for _, r := range resources {
		r["@type"] = types + typ
	}
	text, err := json.Marshal(obj{"resources": append([]obj{}, resources...)})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

func from(dir, file string) obj {
	return obj{"resource_api_version": "V3", "path_config_source": obj{"path": filepath.Join(dir, file), "watched_directory": obj{"path": dir}}}
}

// TestClusterAddedAfterTheLook: a gateway as Istio makes them, http statistics hidden. A cluster and the route to it come after its
// configuration was read, and a request goes there at once.
func TestClusterAddedAfterTheLook(t *testing.T) {
	t.Parallel()
	const clusterType, routeType = "config.cluster.v3.Cluster", "config.route.v3.RouteConfiguration"
	app := startApp(t)
	dir, in := t.TempDir(), freePort(t)
	route := func(to string) obj {
		return obj{"name": "http.80", "virtual_hosts": []obj{{"name": "all", "domains": []string{"*"}, "routes": []obj{{
			"match": obj{"prefix": "/"}, "route": obj{"cluster": to, "timeout": "0s"},
		}}}}}
	}
	put(t, dir, "cds", clusterType, cluster("outbound|80||a", freePort(t), nil))
	put(t, dir, "rds", routeType, route("outbound|80||a"))
	l := listener("gateway", in, "OUTBOUND", httpFilter("outbound_0.0.0.0_80", nil, obj{"route_config": nil, "rds": obj{"route_config_name": "http.80", "config_source": from(dir, "rds")}}))
	l["address"].(obj)["socket_address"].(obj)["address"] = "0.0.0.0"
	put(t, dir, "lds", "config.listener.v3.Listener", l)
	more := hidden()
	more["dynamic_resources"] = obj{"lds_config": from(dir, "lds"), "cds_config": from(dir, "cds")}
	e, c := startWith(t, nil, nil, more)
	describe(t, c)
	until(t, c, "nothing", inFlight(0))
	until(t, c, "a reading that a filter shortens", inFlight(0))

	put(t, dir, "cds", clusterType, cluster("outbound|80||a", freePort(t), nil), cluster("outbound|80||b", app.port, nil))
	put(t, dir, "rds", routeType, route("outbound|80||b"))
	app.reach(t, fmt.Sprintf("127.0.0.1:%d", in), "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
	asked := time.Now()
	for range 40 {
		at := time.Now()
		if s := c.Sample(t.Context()); s.InFlight == drain.Known(0) && at.Add(-s.Age).After(asked) { // an older zero says how old it is
			t.Fatalf("a request is under way: %+v", s)
		}
	}
	until(t, c, "the request", inFlight(1))
	close(app.release)
	until(t, c, "nothing any more", inFlight(0))
	_ = e
}

// TestHotRestart: another Envoy takes the ports over. Its requests are read at once, and what the old one holds is unknown until that is gone.
func TestHotRestart(t *testing.T) {
	t.Parallel()
	app := startApp(t)
	in, base := freePort(t), fmt.Sprint(os.Getpid()%30000+1)
	bootstrap := func(admin int) string {
		text, err := json.Marshal(obj{
			"admin": obj{"address": socketAddress(admin, nil)}, "stats_flush_interval": "0.5s",
			"stats_config": hidden()["stats_config"],
			"static_resources": obj{
				"listeners": []obj{listener("in", in, "INBOUND", httpFilter("in", obj{"cluster": "app"}, nil))},
				"clusters":  []obj{cluster("app", app.port, nil)},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	options := func(admin int, epoch string) envoytest.Options {
		return envoytest.Options{Bootstrap: bootstrap(admin), HotRestart: true, Args: []string{
			"--base-id", base, "--restart-epoch", epoch, "--drain-time-s", "2", "--parent-shutdown-time-s", "4",
		}}
	}
	admin, addr := freePort(t), fmt.Sprintf("127.0.0.1:%d", in)
	old := envoytest.Start(t, options(admin, "0"))
	c := connect(t, old.AdminURL)
	describe(t, c)
	until(t, c, "nothing", inFlight(0))
	app.send(t, addr)
	until(t, c, "the old one's request", inFlight(1))

	next := envoytest.Start(t, options(admin, "1"))
	until(t, c, "another process", func(s envoy.Sample) bool {
		return !s.InFlight.Known && s.Err != nil && strings.Contains(s.Err.Error(), "before the hot restart")
	})
	if s := c.Sample(t.Context()); s.InFlight == drain.Known(0) {
		t.Fatalf("the old one has a request: %+v", s)
	}
	<-old.Exited
	until(t, c, "nothing that the new one has", inFlight(0))
	app.send(t, addr)
	until(t, c, "the new one's request", inFlight(1))
	close(app.release)
	until(t, c, "nothing any more", inFlight(0))
	_ = next
}

// A configuration that cannot be read costs precision, never the reading.
func TestConfigurationThatCannotBeRead(t *testing.T) {
	t.Parallel()
	huge := text(`{"configs":[{"listener":{"name":"` + strings.Repeat("x", 17<<20) + `"}}]}`)
	for name, broken := range map[string]http.HandlerFunc{"refused": code(403), "fails": code(500), "huge": huge, "no JSON": text("<html>")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, c := serve(t, fake{
				"/config_dump?resource=static_listeners": broken, "/config_dump?resource=dynamic_listeners": broken, "/config_dump?resource=": broken, "/listeners": broken,
			})
			describe(t, c)
			s := c.Sample(t.Context())
			if s.InFlight != drain.Known(1) || s.Rung != "clusters" || len(s.Notes) == 0 || s.Bytes.Known {
				t.Errorf("%+v", s)
			}
			if name == "refused" && !strings.Contains(strings.Join(s.Notes, " "), `allow_paths: {prefix: "/config_dump"}`) {
				t.Errorf("the line to add is not said: %q", s.Notes)
			}
		})
	}
}

// A dump that takes long holds no reading.
func TestSlowConfiguration(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	_, c := serve(t, fake{"/config_dump?resource=static_listeners": func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}})
	began := time.Now()
	s := c.Sample(t.Context())
	if s.InFlight != drain.Known(1) || time.Since(began) > silenceOfEnvoy {
		t.Errorf("after %v: %+v", time.Since(began), s)
	}
}

const silenceOfEnvoy = 2 * time.Second
