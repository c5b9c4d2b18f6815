package envoy

import (
	"encoding/json"
	"testing"

	jsonv2 "github.com/go-json-experiment/json"
)

func TestClassesOfFilterChains(t *testing.T) {
	const (
		hcm = `{"@type": "` + typeHTTP + `", "stat_prefix": "in", "route_config": {"virtual_hosts": [{"routes": [{"route": {"cluster": "c"`
		end = `}}]}]}}`
		tcp = `{"@type": "` + typeTCP + `", "cluster": "c"}`
		ws  = `"upgrade_configs": [{"upgrade_type": "WebSocket"}]`
		con = `"upgrade_configs": [{"upgrade_type": "websocket"}, {"upgrade_type": "CONNECT"}, {"upgrade_type": "websocket"}]`
	)
	chain := func(filter, more string) string { return `{"filters": [{"typed_config": ` + filter + `}]` + more + `}` }
	tests := map[string]struct {
		chains, class, upgrade string
		mixed                  bool
	}{
		"http":                      {chain(hcm+end, ""), "", "", false},
		"tcp":                       {chain(tcp, ""), "tcp", "", false},
		"tls by name":               {chain(tcp, `, "filter_chain_match": {"server_names": ["a.example"]}`), "tls", "", false},
		"tls by protocol":           {chain(tcp, `, "filter_chain_match": {"transport_protocol": "tls"}`), "tls", "", false},
		"tls that ends here":        {chain(tcp, `, "filter_chain_match": {"transport_protocol": "tls"}, "transport_socket": {"name": "tls"}`), "tcp", "", false},
		"tls and tcp":               {chain(tcp, `, "filter_chain_match": {"transport_protocol": "tls"}`) + "," + chain(tcp, ""), "tcp", "", false},
		"tcp and tls":               {chain(tcp, "") + "," + chain(tcp, `, "filter_chain_match": {"transport_protocol": "tls"}`), "tcp", "", false},
		"tcp and http":              {chain(tcp, "") + "," + chain(hcm+end, ""), "", "", true},
		"http and tcp":              {chain(hcm+end, "") + "," + chain(tcp, ""), "", "", true},
		"websocket":                 {chain(hcm+end[:len(end)-1]+","+ws+"}", ""), "", "websocket", false},
		"websocket on a route":      {chain(hcm+","+ws+end, ""), "", "websocket", false},
		"websocket and CONNECT":     {chain(hcm+end[:len(end)-1]+","+con+"}", ""), "", "upgrade", false},
		"websocket, route: CONNECT": {chain(hcm+","+con+end[:len(end)-1]+","+ws+"}", ""), "", "upgrade", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			text := `{"filter_chains": [` + tt.chains + `]}`
			if !json.Valid([]byte(text)) {
				t.Fatal(text)
			}
			var l listener
			if err := jsonv2.Unmarshal([]byte(text), &l); err != nil {
				t.Fatal(err)
			}
			n := namesOf([]served{{listener: &l, services: l.services()}}, nil, known{})
			if c := n.classes; c.of("c") != tt.class || c.upgrade != tt.upgrade || c.mixed() != tt.mixed {
				t.Errorf("class %q, upgrade %q, mixed %v; want %q, %q, %v", c.of("c"), c.upgrade, c.mixed(), tt.class, tt.upgrade, tt.mixed)
			}
		})
	}
}

func TestUpgradesOfRoutesFromAControlPlane(t *testing.T) {
	var routes routeConfig
	text := `{"virtual_hosts": [{"routes": [{"redirect": {}}, {"route": {"cluster": "c", "upgrade_configs": [{"upgrade_type": "CONNECT"}]}}]}]}`
	if err := jsonv2.Unmarshal([]byte(text), &routes); err != nil {
		t.Fatal(err)
	}
	s := service{routes: "r"}
	s.resolve(map[string]*routeConfig{"r": &routes})
	if len(s.upgrades) != 1 || s.upgrades[0].Type != "CONNECT" {
		t.Errorf("upgrades %v", s.upgrades)
	}
}
