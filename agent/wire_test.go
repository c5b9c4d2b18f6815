package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

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
			fmt.Fprint(w, `{"stats":[]}`)
		default:
			fmt.Fprint(w, `{}`)
		}
	}))
	t.Cleanup(server.Close)
	admin, err := envoy.New(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	look := newWires(&config{flags: &runFlags{}, admin: admin}).proxy(t.Context())
	if look.InFlight.Known || look.Live != drain.Up || !strings.Contains(look.Note, "none of them is inbound") {
		t.Errorf("%+v", look)
	}
}
