package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/internal/envoy"
)

// A container with two ports has ended when both are closed, whichever closes first.
func TestTwoWatchesOfOneContainer(t *testing.T) {
	first, second := listen(t), listen(t)
	c := loaded(t, "--envoy-admin=", "--watch=app=port:"+portOf(first), "--watch=app=port:"+portOf(second))
	world := newWires(c).world()
	if len(world.Watches) != 1 || world.Watches[0].Container != c.policy.Find("app") {
		t.Fatalf("watches %+v, want one of the app", world.Watches)
	}
	want := func(when string, want drain.Liveness) {
		t.Helper()
		if live, err := world.Watches[0].Look(t.Context()); live != want || err != nil {
			t.Errorf("%s: %v, %v, want %v", when, live, err, want)
		}
	}
	want("both open", drain.Up)
	first.Close()
	want("the first closed", drain.Up)
	second.Close()
	want("both closed", drain.Gone)
}

// Without an Envoy clients are counted at the first port of each container that serves.
func TestClientsOfAPodWithoutAProxy(t *testing.T) {
	c := loaded(t, "--proxy=none", "--hooks=app,web,work,agent", "--stop-order=app+web+work", "--workers=work", "--watch=app=port:8080",
		"--watch=app=port:8090", "--watch=work=port:8081", "--watch=web=file:/x", "--watch=web=port:8082")
	w := newWires(c)
	if world := w.world(); world.Proxy != nil || world.Describe != nil || len(world.Watches) != 3 {
		t.Errorf("world %+v", world)
	}
	if got := w.inbound.Load(); got == nil || !slices.Equal(got.ports, []uint16{8080, 8082}) {
		t.Errorf("clients are counted at %+v", got)
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

func portOf(ln net.Listener) string { return strconv.Itoa(ln.Addr().(*net.TCPAddr).Port) }

// An Envoy that answers and does not say how much it has in flight holds every drain: the log says why.
func TestUnknownHasAReason(t *testing.T) {
	replies := map[string]string{
		"/server_info": `{"version":"x/1.40.0/Clean"}`,
		"/config_dump?resource=static_listeners": `{"configs":[{"listener":{"name":"in","traffic_direction":"INBOUND","address":{"socket_address":{"address":"0.0.0.0","port_value":8080}},
			"filter_chains":[{"filters":[{"typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy","cluster":"app"}}]}]}}]}`,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := r.URL.Path
		if resource := r.URL.Query().Get("resource"); resource != "" {
			key += "?resource=" + resource
		}
		switch reply, found := replies[key]; {
		case found:
			fmt.Fprint(w, reply)
		case r.URL.Path == "/stats":
			fmt.Fprint(w, "")
		default:
			fmt.Fprint(w, `{}`)
		}
	}))
	t.Cleanup(server.Close)
	admin, err := envoy.New(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	look := newWires(&config{flags: &runFlags{}, admin: admin}).proxy(t.Context(), time.Time{})
	if look.InFlight.Known || look.Live != drain.Up || !strings.Contains(look.Note, "none of them is inbound") {
		t.Errorf("%+v", look)
	}
}

// What may disturb a drain that lasts as long as the grace period lets it comes with the description of Envoy.
func TestADescriptionHasItsDoubt(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/server_info" {
			fmt.Fprint(w, `{"version":"x/9.9.0/Clean","command_line_options":{"drain_time":"7s"}}`)
			return
		}
		fmt.Fprint(w, `{}`)
	}))
	defer server.Close()
	d, err := newWires(loaded(t, "--envoy-admin="+server.URL, "--grace-period=50s")).describe(t.Context())
	if err != nil || !strings.Contains(d.Doubt, "envoy 9.9.0 does") || !strings.Contains(d.Doubt, "a drain may take 41s, and envoy 9.9.0 runs with --drain-time-s 7") {
		t.Errorf("%q, %v", d.Doubt, err)
	}
}

// Whether the program around Envoy lets it finish after SIGTERM comes with the description: what Envoy says then is believed.
func TestADescriptionHasItsOwnersManners(t *testing.T) {
	for metadata, lingers := range map[string]bool{"ISTIO_VERSION": false, "any": false, "dataplane.admin.port": true} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"version":"x/1.40.0/Clean","node":{"metadata":{%q:"x"}}}`, metadata)
		}))
		d, err := newWires(loaded(t, "--envoy-admin="+server.URL)).describe(t.Context())
		if err != nil || d.Facts.Lingers != lingers {
			t.Errorf("%s: lingers %v, %v", metadata, d.Facts.Lingers, err)
		}
		server.Close()
	}
}

// An Envoy whose ports are not known, as one with UDP listeners only, is gone when its admin has refused for a while: between two processes
// of a hot restart nobody listens there for a moment.
func TestEnvoyWithoutPortsIsSeenToDie(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/stats" {
			fmt.Fprint(w, `{}`)
		}
	}))
	admin, err := envoy.New(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	w := newWires(&config{flags: &runFlags{}, admin: admin})
	want := func(when string, want drain.Liveness) {
		t.Helper()
		if look := w.proxy(t.Context(), time.Time{}); look.Live != want {
			t.Errorf("%s: %v, want %v", when, look.Live, want)
		}
	}
	want("it answers", drain.Up)
	server.Close()
	want("it refuses since just now", drain.Unseen)
	w.refused = w.refused.Add(-refusedLong)
	want("it has refused for a while", drain.Gone)
	w.follow([]uint16{uint16(listen(t).Addr().(*net.TCPAddr).Port)})
	want("a port of it is open", drain.Up)
}
