package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

// overHTTP3 is a pod whose Envoy speaks HTTP/3 alone: it has no TCP port but the admin's.
func overHTTP3(t *testing.T) setup {
	t.Helper()
	cert, key := certificate(t)
	config, err := yaml.YAMLToJSON(fmt.Appendf(nil, `
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 15000}}}
static_resources:
  clusters:
  - name: app
    load_assignment: {cluster_name: app, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 8080}}}}]}]}
  listeners:
  - name: inbound
    traffic_direction: INBOUND
    address: {socket_address: {address: 0.0.0.0, port_value: %d, protocol: UDP}}
    udp_listener_config: {quic_options: {}}
    filter_chains:
    - transport_socket:
        name: quic
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.quic.v3.QuicDownstreamTransport
          downstream_tls_context:
            common_tls_context:
              tls_certificates:
              - {certificate_chain: {inline_string: %q}, private_key: {inline_string: %q}}
      filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: inbound
          codec_type: HTTP3
          http3_protocol_options: {}
          http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]
          route_config: {virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: app, timeout: 0s}}]}]}
`, inbound, cert, key))
	if err != nil {
		t.Fatal(err)
	}
	return setup{
		bootstrap: func(string) map[string]string { return map[string]string{"envoy.json": string(config)} },
		manifest:  func(p *corev1.Pod) { containerOf(p, "proxy").Args[1] = "/etc/envoy/envoy.json" },
	}
}

// overQUIC sends one request over HTTP/3.
func (u *under) overQUIC(path string) <-chan answer {
	transport := &http3.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // its certificate is made here
	done := make(chan answer, 1)
	go func() {
		defer transport.Close()
		url := strings.Replace(u.url(inbound, path), "http://", "https://", 1)
		done <- get(context.Background(), &http.Client{Transport: transport, Timeout: 60 * time.Second}, url)
	}()
	return done
}

// Requests over HTTP/3 hold a stop as others do, and Envoy is told to drain.
func TestHTTP3(t *testing.T) {
	t.Parallel()
	u := start(t, overHTTP3(t))
	long := u.overQUIC("/work?ms=5000")
	u.busy(1)
	u.stop()
	a := <-long
	u.mustServe("over HTTP/3", a)
	v := u.verdict("clean")
	u.wantCut(nil)
	if answered, _ := u.when("app", pod.HookAnswered); answered.Before(a.at) {
		t.Errorf("app's hook answered at %v, its request ended at %v", answered, a.at)
	}
	counted := false
	for _, point := range v.InFlightCurve {
		counted = counted || point[1] == 1
	}
	if !counted {
		t.Errorf("nobody counted the request: %v", v.InFlightCurve)
	}
}

// The death of an Envoy that has no TCP port is seen.
func TestHTTP3EnvoyDies(t *testing.T) {
	t.Parallel()
	s := overHTTP3(t)
	s.noApp = true
	u := start(t, s)
	long := u.overQUIC("/work?ms=20000")
	u.busy(1)
	u.Delete(nil)
	u.phase("draining", 1)
	if err := u.Kill("proxy"); err != nil {
		t.Fatal(err)
	}
	u.wait()
	if a := <-long; a.err == nil {
		t.Errorf("%+v from an Envoy that is dead", a)
	}
	v := u.verdict("proxy_died")
	if len(v.Cut) == 0 {
		t.Errorf("nothing was cut: %+v", v)
	}
}
