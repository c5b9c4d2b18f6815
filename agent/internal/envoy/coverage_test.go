package envoy_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/drain-agent/drain-agent/agent/internal/envoy"
	"github.com/drain-agent/drain-agent/scripts/envoy/envoytest"
)

// obj is a part of Envoy's configuration, which may be JSON.
type obj = map[string]any

const types = "type.googleapis.com/envoy."

func extension(name, typ string, fields obj) obj {
	config := obj{"@type": types + typ}
	maps.Copy(config, fields)
	return obj{"name": name, "typed_config": config}
}

// httpFilter is an HTTP connection manager whose requests all go where route says.
func httpFilter(prefix string, route, more obj, before ...obj) obj {
	to := obj{"timeout": "0s"}
	maps.Copy(to, route)
	fields := obj{
		"stat_prefix":  prefix,
		"http_filters": append(before, extension("router", "extensions.filters.http.router.v3.Router", nil)),
		"route_config": obj{"validate_clusters": false, "virtual_hosts": []obj{{"name": "all", "domains": []string{"*"}, "routes": []obj{{"match": obj{"prefix": "/"}, "route": to}}}}},
	}
	maps.Copy(fields, more)
	return extension("hcm", "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", fields)
}

func tcpFilter(prefix, cluster string) obj {
	return extension("tcp", "extensions.filters.network.tcp_proxy.v3.TcpProxy", obj{"stat_prefix": prefix, "cluster": cluster})
}

func socketAddress(port int, more obj) obj {
	at := obj{"address": "127.0.0.1", "port_value": port}
	maps.Copy(at, more)
	return obj{"socket_address": at}
}

func listener(name string, port int, direction string, filters ...obj) obj {
	l := obj{"name": name, "address": socketAddress(port, nil), "filter_chains": []obj{{"filters": filters}}}
	if direction != "" {
		l["traffic_direction"] = direction
	}
	return l
}

func cluster(name string, port int, more obj) obj {
	c := obj{"name": name, "type": "STATIC", "connect_timeout": "2s", "load_assignment": obj{
		"cluster_name": name, "endpoints": []obj{{"lb_endpoints": []obj{{"endpoint": obj{"address": socketAddress(port, nil)}}}}},
	}}
	maps.Copy(c, more)
	return c
}

// special is a cluster of a type that is an extension.
func special(name, typ string, fields obj) obj {
	return obj{"name": name, "connect_timeout": "2s", "lb_policy": "CLUSTER_PROVIDED", "cluster_type": extension("envoy.clusters."+typ, "extensions.clusters."+typ+".v3.ClusterConfig", fields)}
}

func overHTTP2() obj {
	const options = "extensions.upstreams.http.v3.HttpProtocolOptions"
	return obj{"typed_extension_protocol_options": obj{"envoy." + options: obj{"@type": types + options, "explicit_http_config": obj{"http2_protocol_options": obj{}}}}}
}

// hidden shows what Istio shows of what is of use here.
func hidden(more ...string) obj {
	var patterns []obj
	for _, prefix := range append(more, "cluster_manager", "listener_manager", "server") {
		patterns = append(patterns, obj{"prefix": prefix})
	}
	return obj{"stats_config": obj{"stats_matcher": obj{"inclusion_list": obj{"patterns": patterns}}}}
}

func startWith(t *testing.T, listeners, clusters []obj, more obj, args ...string) (*envoytest.Envoy, *envoy.Client) {
	t.Helper()
	bootstrap := obj{
		"node": obj{"id": "test", "cluster": "test"}, "admin": obj{"address": socketAddress(freePort(t), nil)},
		"static_resources": obj{"listeners": listeners, "clusters": clusters},
	}
	maps.Copy(bootstrap, more)
	text, err := json.Marshal(bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	e := envoytest.Start(t, envoytest.Options{Bootstrap: string(text), Args: args})
	return e, connect(t, e.AdminURL)
}

// rpcServer accepts every stream of gRPC and answers none.
func rpcServer(t *testing.T) (port int, streams chan string) {
	t.Helper()
	streams = make(chan string, 100)
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(s)
		streams <- method
		<-s.Context().Done()
		return nil
	}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return l.Addr().(*net.TCPAddr).Port, streams
}

// TestClustersWithoutHosts: what goes through an aggregate cluster or a dynamic forward proxy stands at the hosts of other clusters.
func TestClustersWithoutHosts(t *testing.T) {
	t.Parallel()
	aggregate := special("svc", "aggregate", obj{"clusters": []string{"first", "second"}})
	composite := special("svc", "composite", obj{"clusters": []obj{{"name": "first"}, {"name": "second"}}})
	forward := special("svc", "dynamic_forward_proxy", obj{"sub_clusters_config": obj{"lb_policy": "ROUND_ROBIN"}})
	for name, test := range map[string]struct {
		filter   func() obj
		clusters []obj
		more     obj
		tcp      bool
	}{
		"aggregate, TCP":          {filter: func() obj { return tcpFilter("in", "svc") }, clusters: []obj{aggregate}, tcp: true},
		"aggregate, hidden":       {filter: func() obj { return httpFilter("in", obj{"cluster": "svc"}, nil) }, clusters: []obj{aggregate}, more: hidden()},
		"forward proxy, hidden":   {filter: func() obj { return httpFilter("in", obj{"cluster": "svc"}, nil, forwardFilter()) }, clusters: []obj{forward}, more: hidden()},
		"forward proxy, shown":    {filter: func() obj { return httpFilter("in", obj{"cluster": "svc"}, nil, forwardFilter()) }, clusters: []obj{forward}},
		"composite, hidden":       {filter: func() obj { return httpFilter("in", obj{"cluster": "svc"}, nil) }, clusters: []obj{composite}, more: hidden()},
		"composite, shown":        {filter: func() obj { return httpFilter("in", obj{"cluster": "svc"}, nil) }, clusters: []obj{composite}},
		"one that is not defined": {filter: func() obj { return httpFilter("in", obj{"cluster_header": "x-to"}, nil) }, more: hidden()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := startApp(t)
			in := freePort(t)
			// an outbound listener makes it a sidecar, where only what belongs to inbound traffic counts
			egress := listener("out", freePort(t), "OUTBOUND", httpFilter("out", obj{"cluster": "away"}, nil))
			clusters := append(test.clusters, cluster("first", app.port, nil), cluster("second", freePort(t), nil), cluster("away", freePort(t), nil))
			_, c := startWith(t, []obj{listener("in", in, "INBOUND", test.filter()), egress}, clusters, test.more)
			until(t, c, "nothing", inFlight(0))
			conn := app.reach(t, fmt.Sprintf("127.0.0.1:%d", in), fmt.Sprintf("GET /slow HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nx-to: first\r\n\r\n", app.port))
			until(t, c, "the request", inFlight(1))
			close(app.release)
			if test.tcp {
				conn.Close()
			}
			until(t, c, "nothing any more", inFlight(0))
		})
	}
}

// reach sends the same request on new connections until one reaches the app: such clusters have their members some time after the start.
func (app *slowApp) reach(t *testing.T, addr, request string) net.Conn {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < 10*time.Second; <-tick.C {
		conn, err := net.Dial("tcp", addr)
		if err != nil { // a listener that is only just coming
			continue
		}
		t.Cleanup(func() { conn.Close() })
		fmt.Fprint(conn, request)
		refused := make(chan struct{})
		go func() {
			_, _ = conn.Read(make([]byte, 1)) // no answer comes to a request that is held
			close(refused)
		}()
		select {
		case <-app.arrived:
			return conn
		case <-refused:
			conn.Close()
		}
	}
	t.Fatal("the request did not reach the app")
	return nil
}

func forwardFilter() obj {
	return extension("dfp", "extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig", obj{"sub_cluster_config": obj{"cluster_init_timeout": "5s"}})
}

// TestEnvoysOwnErrands: streams that never end, to whom Envoy reports for itself, are no traffic: an idle Envoy reads 0 within a second.
func TestEnvoysOwnErrands(t *testing.T) {
	t.Parallel()
	grpcTo := obj{"envoy_grpc": obj{"cluster_name": "telemetry"}}
	logs := obj{"access_log": []obj{extension("als", "extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig", obj{
		"common_config": obj{"log_name": "x", "transport_api_version": "V3", "grpc_service": grpcTo},
	})}}
	metrics := obj{"stats_flush_interval": "0.1s", "stats_sinks": []obj{extension("ms", "config.metrics.v3.MetricsServiceConfig", obj{"transport_api_version": "V3", "grpc_service": grpcTo})}}
	redis := extension("redis", "extensions.filters.network.redis_proxy.v3.RedisProxy", obj{
		"stat_prefix": "r", "settings": obj{"op_timeout": "5s"}, "prefix_routes": obj{"catch_all_route": obj{"cluster": "app"}},
	})
	for name, test := range map[string]struct {
		filter, more obj
		ask          bool
	}{
		"access log":                   {filter: httpFilter("in", obj{"cluster": "app"}, logs), ask: true},
		"access log, routed by header": {filter: httpFilter("in", obj{"cluster_header": "x-to"}, logs), ask: true},
		"access log, all hidden":       {filter: httpFilter("in", obj{"cluster_header": "x-to"}, logs), more: hidden(), ask: true},
		"metrics beside redis":         {filter: redis, more: metrics},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			telemetry, streams := rpcServer(t)
			app := startApp(t)
			in := freePort(t)
			_, c := startWith(t, []obj{listener("in", in, "INBOUND", test.filter)}, []obj{cluster("app", app.port, nil), cluster("telemetry", telemetry, overHTTP2())}, test.more)
			conn := dial(t, fmt.Sprintf("127.0.0.1:%d", in))
			if test.ask {
				fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\nx-to: app\r\nConnection: close\r\n\r\n")
				if _, err := io.Copy(io.Discard, conn); err != nil { // its end is the connection's
					t.Fatal(err)
				}
			}
			<-streams
			withinASecond(t, c, "nothing while Envoy reports", inFlight(0))
			for range 20 {
				if s := c.Sample(t.Context()); s.InFlight.N > 0 || s.Failure != "" {
					t.Fatalf("%+v", s)
				}
			}
		})
	}
}

// TestRequestBeforeItsHost: with hidden statistics, a request that waits for an authorization is seen there.
func TestRequestBeforeItsHost(t *testing.T) {
	t.Parallel()
	authorizer, streams := rpcServer(t)
	authorization := extension("authz", "extensions.filters.http.ext_authz.v3.ExtAuthz", obj{
		"transport_api_version": "V3", "grpc_service": obj{"timeout": "60s", "envoy_grpc": obj{"cluster_name": "authz"}},
	})
	in := freePort(t)
	_, c := startWith(t, []obj{listener("in", in, "INBOUND", httpFilter("in", obj{"cluster": "app"}, nil, authorization))},
		[]obj{cluster("app", startApp(t).port, nil), cluster("authz", authorizer, overHTTP2())}, hidden())
	until(t, c, "nothing", inFlight(0))
	conn := dial(t, fmt.Sprintf("127.0.0.1:%d", in))
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-streams
	until(t, c, "the request", inFlight(1))
	conn.Close()
	until(t, c, "nothing any more", inFlight(0))
}

// TestSessionsOfDatagrams are counted by their own gauge; where that is hidden they are unknown, and what would show them is said.
func TestSessionsOfDatagrams(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]obj{"shown": nil, "hidden": hidden(), "included": hidden("udp.")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := freePort(t)
			udp := obj{
				"name": "udp", "address": socketAddress(in, obj{"protocol": "UDP"}), "udp_listener_config": obj{},
				"listener_filters": []obj{extension("udp", "extensions.filters.udp.udp_proxy.v3.UdpProxyConfig", obj{"stat_prefix": "game", "cluster": "app", "idle_timeout": "3600s"})},
			}
			_, c := startWith(t, []obj{udp}, []obj{cluster("app", freePort(t), nil)}, more)
			if name == "hidden" {
				s := until(t, c, "unknown", func(s envoy.Sample) bool { return !s.InFlight.Known && len(s.Notes) > 0 })
				if !strings.Contains(s.Notes[0], "listener udp: UdpProxyConfig: let the stats_matcher show udp.game.downstream_sess_active") || s.Failure != "" {
					t.Errorf("%+v", s)
				}
				return
			}
			until(t, c, "nothing", inFlight(0))
			conn, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", in))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			until(t, c, "the session", inFlight(1))
		})
	}
}

// TestFiltersThatNobodyKnows are counted by their listener's connections.
func TestFiltersThatNobodyKnows(t *testing.T) {
	t.Parallel()
	echo := extension("echo", "extensions.filters.network.echo.v3.Echo", nil)
	for _, hide := range []bool{false, true} {
		in := freePort(t)
		more := obj{}
		if hide {
			more = hidden()
		}
		_, c := startWith(t, []obj{listener("in", in, "INBOUND", echo)}, nil, more)
		if hide {
			want := fmt.Sprintf("listener in: Echo: let the stats_matcher show listener.127.0.0.1_%d.downstream_cx_active", in)
			until(t, c, want, func(s envoy.Sample) bool {
				return !s.InFlight.Known && s.Err != nil && strings.Contains(s.Err.Error(), want)
			})
			continue
		}
		until(t, c, "nothing", inFlight(0))
		conn := dial(t, fmt.Sprintf("127.0.0.1:%d", in))
		until(t, c, "the connection", inFlight(1))
		conn.Close()
		until(t, c, "nothing any more", inFlight(0))
	}
}
