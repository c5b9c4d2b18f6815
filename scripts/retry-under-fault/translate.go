package main

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	faultcommonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/fault/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	limitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	previousv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"
	"sigs.k8s.io/yaml"

	"github.com/drain-agent/drain-agent/istio"
)

const (
	faultFilter   = "envoy.filters.http.fault"
	limitFilter   = "envoy.filters.http.local_ratelimit"
	routerFilter  = "envoy.filters.http.router"
	hcmFilter     = "envoy.filters.network.http_connection_manager"
	upstreamHTTP  = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
	previousHosts = "envoy.retry_host_predicates.previous_hosts"
)

// resource reads the spec of the first resource of that kind in one of the mesh's files.
func resource(file, kind string, spec proto.Message) error {
	text, err := istio.Files.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	for document := range bytes.SplitSeq(text, []byte("\n---\n")) {
		var object struct {
			Kind string `json:"kind"`
			Spec any    `json:"spec"`
		}
		if err := yaml.Unmarshal(document, &object); err != nil {
			return fmt.Errorf("read %s: %w", file, err)
		}
		if object.Kind != kind {
			continue
		}
		plain, err := yaml.Marshal(object.Spec)
		if err != nil {
			return err
		}
		json, err := yaml.YAMLToJSON(plain)
		if err != nil {
			return err
		}
		return protojson.Unmarshal(json, spec)
	}
	return fmt.Errorf("read %s: no %s in it", file, kind)
}

// clusterName is Istio's name for where a destination leads.
func clusterName(d *networking.Destination) string {
	return fmt.Sprintf("outbound|%d|%s|%s", d.GetPort().GetNumber(), d.GetSubset(), d.GetHost())
}

// routes translates a VirtualService as Istio does for the proxies that it concerns.
func routes(vs *networking.VirtualService) ([]*routev3.Route, error) {
	var all []*routev3.Route
	for _, http := range vs.GetHttp() {
		route := &routev3.Route{Match: match(http), Action: &routev3.Route_Route{Route: action(http)}}
		if fault := http.GetFault(); fault != nil {
			config, err := anypb.New(faultOf(fault))
			if err != nil {
				return nil, err
			}
			route.TypedPerFilterConfig = map[string]*anypb.Any{faultFilter: config}
		}
		all = append(all, route)
	}
	return all, nil
}

func match(http *networking.HTTPRoute) *routev3.RouteMatch {
	m := &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}
	for _, one := range http.GetMatch() {
		for name, value := range one.GetHeaders() {
			exact := &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: value.GetExact()}}
			m.Headers = append(m.Headers, &routev3.HeaderMatcher{Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: exact}})
		}
	}
	return m
}

func action(http *networking.HTTPRoute) *routev3.RouteAction {
	a := &routev3.RouteAction{Timeout: http.GetTimeout(), RetryPolicy: retries(http.GetRetries())}
	if len(http.GetRoute()) == 1 {
		a.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: clusterName(http.GetRoute()[0].GetDestination())}
		return a
	}
	weighted := &routev3.WeightedCluster{}
	for _, to := range http.GetRoute() {
		weighted.Clusters = append(weighted.Clusters, &routev3.WeightedCluster_ClusterWeight{
			Name: clusterName(to.GetDestination()), Weight: wrapperspb.UInt32(uint32(to.GetWeight())), //nolint:gosec // 0 to 100
		})
	}
	a.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: weighted}
	return a
}

// retries splits Istio's list into Envoy's conditions and the status codes among them, and never asks the same host twice in a row.
func retries(r *networking.HTTPRetry) *routev3.RetryPolicy {
	if r == nil {
		return nil
	}
	previous, _ := anypb.New(&previousv3.PreviousHostsPredicate{})
	policy := &routev3.RetryPolicy{
		NumRetries: wrapperspb.UInt32(uint32(r.GetAttempts())), PerTryTimeout: r.GetPerTryTimeout(), //nolint:gosec // a small number
		HostSelectionRetryMaxAttempts: 5,
		RetryHostPredicate: []*routev3.RetryPolicy_RetryHostPredicate{
			{Name: previousHosts, ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: previous}},
		},
	}
	var on []string
	for condition := range strings.SplitSeq(r.GetRetryOn(), ",") {
		if code, err := strconv.ParseUint(condition, 10, 32); err == nil {
			policy.RetriableStatusCodes = append(policy.RetriableStatusCodes, uint32(code))
			continue
		}
		on = append(on, condition)
	}
	if len(policy.GetRetriableStatusCodes()) > 0 {
		on = append(on, "retriable-status-codes")
	}
	policy.RetryOn = strings.Join(on, ",")
	return policy
}

func faultOf(f *networking.HTTPFaultInjection) *faultv3.HTTPFault {
	out := &faultv3.HTTPFault{}
	if abort := f.GetAbort(); abort != nil {
		out.Abort = &faultv3.FaultAbort{
			ErrorType:  &faultv3.FaultAbort_HttpStatus{HttpStatus: uint32(abort.GetHttpStatus())}, //nolint:gosec // a status
			Percentage: percent(abort.GetPercentage()),
		}
	}
	if delay := f.GetDelay(); delay != nil {
		out.Delay = &faultcommonv3.FaultDelay{
			FaultDelaySecifier: &faultcommonv3.FaultDelay_FixedDelay{FixedDelay: delay.GetFixedDelay()}, Percentage: percent(delay.GetPercentage()),
		}
	}
	return out
}

func percent(p *networking.Percent) *typev3.FractionalPercent {
	return &typev3.FractionalPercent{Numerator: uint32(p.GetValue() * 10_000), Denominator: typev3.FractionalPercent_MILLION}
}

// cluster translates the DestinationRule for one of its subsets, with the pods that stand behind it.
func cluster(name string, rule *networking.DestinationRule, pods []string) (*clusterv3.Cluster, error) {
	http2, err := anypb.New(&httpv3.HttpProtocolOptions{UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
		ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: &corev3.Http2ProtocolOptions{}},
		},
	}})
	if err != nil {
		return nil, err
	}
	c := &clusterv3.Cluster{
		Name: name, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		TypedExtensionProtocolOptions: map[string]*anypb.Any{upstreamHTTP: http2},
		LoadAssignment:                &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{}}},
	}
	for _, pod := range pods {
		address, err := socket(pod)
		if err != nil {
			return nil, err
		}
		endpoints := c.GetLoadAssignment().GetEndpoints()[0]
		endpoints.LbEndpoints = append(endpoints.LbEndpoints, &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address}},
		})
	}
	// Istio's default: no limit. Envoy's own is three retries at once, and the rest of them fail.
	none := wrapperspb.UInt32(math.MaxUint32)
	c.CircuitBreakers = &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{
		{MaxConnections: none, MaxPendingRequests: none, MaxRequests: none, MaxRetries: none},
	}}
	if rule != nil {
		limit(c, rule.GetTrafficPolicy())
	}
	return c, nil
}

func limit(c *clusterv3.Cluster, policy *networking.TrafficPolicy) {
	tcp, http, out := policy.GetConnectionPool().GetTcp(), policy.GetConnectionPool().GetHttp(), policy.GetOutlierDetection()
	c.ConnectTimeout = tcp.GetConnectTimeout()
	number := func(n int32) *wrapperspb.UInt32Value { return wrapperspb.UInt32(uint32(n)) } //nolint:gosec // Istio's own limits
	c.CircuitBreakers = &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
		MaxConnections: number(tcp.GetMaxConnections()), MaxPendingRequests: number(http.GetHttp1MaxPendingRequests()),
		MaxRequests: number(http.GetHttp2MaxRequests()), MaxRetries: number(http.GetMaxRetries()),
	}}}
	c.OutlierDetection = &clusterv3.OutlierDetection{
		Consecutive_5Xx: out.GetConsecutive_5XxErrors(), EnforcingConsecutive_5Xx: wrapperspb.UInt32(100),
		Interval: out.GetInterval(), BaseEjectionTime: out.GetBaseEjectionTime(), MaxEjectionPercent: number(out.GetMaxEjectionPercent()),
		EnforcingSuccessRate: wrapperspb.UInt32(0), // Istio's default
	}
}

// rateLimit takes the filter that an EnvoyFilter inserts, as it stands there.
func rateLimit(filter *networking.EnvoyFilter) (*hcmv3.HttpFilter, error) {
	value := filter.GetConfigPatches()[0].GetPatch().GetValue().GetFields()
	if name := value["name"].GetStringValue(); name != limitFilter {
		return nil, fmt.Errorf("translate the EnvoyFilter: it inserts %q, want %q", name, limitFilter)
	}
	typed := value["typed_config"].GetStructValue()
	delete(typed.GetFields(), "@type")
	json, err := protojson.Marshal(typed)
	if err != nil {
		return nil, err
	}
	config := new(limitv3.LocalRateLimit)
	if err := protojson.Unmarshal(json, config); err != nil {
		return nil, fmt.Errorf("translate the EnvoyFilter: %w", err)
	}
	return httpFilter(limitFilter, config)
}

func httpFilter(name string, config proto.Message) (*hcmv3.HttpFilter, error) {
	typed, err := anypb.New(config)
	return &hcmv3.HttpFilter{Name: name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: typed}}, err
}

// listener is an HTTP listener on a free port of loopback.
func listener(name string, routes []*routev3.Route, filters ...*hcmv3.HttpFilter) (*listenerv3.Listener, error) {
	fault, err := httpFilter(faultFilter, &faultv3.HTTPFault{})
	if err != nil {
		return nil, err
	}
	router, err := httpFilter(routerFilter, &routerv3.Router{})
	if err != nil {
		return nil, err
	}
	manager, err := anypb.New(&hcmv3.HttpConnectionManager{
		StatPrefix: name, HttpFilters: slices.Concat(filters, []*hcmv3.HttpFilter{fault, router}),
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
			VirtualHosts: []*routev3.VirtualHost{{Name: name, Domains: []string{"*"}, Routes: routes}},
		}},
	})
	if err != nil {
		return nil, err
	}
	address, err := socket("127.0.0.1:0")
	return &listenerv3.Listener{Name: name, Address: address, FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{
		{Name: hcmFilter, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: manager}},
	}}}}, err
}

func socket(hostPort string) (*corev3.Address, error) {
	host, port, _ := strings.Cut(hostPort, ":")
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("read address %q: %w", hostPort, err)
	}
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(number)},
	}}}, nil
}

func bootstrap(listeners []*listenerv3.Listener, clusters []*clusterv3.Cluster) ([]byte, error) {
	address, err := socket("127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return protojson.Marshal(&bootstrapv3.Bootstrap{
		Admin:           &bootstrapv3.Admin{Address: address},
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{Listeners: listeners, Clusters: clusters},
	})
}
