package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/internal/envoy"
)

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
