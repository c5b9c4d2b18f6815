package main

import (
	"context"
	"os"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	networking "istio.io/api/networking/v1alpha3"
)

// mesh is the payments with three pods, the chaos gateway and the proxy of a client.
type mesh struct {
	service         *service
	stable          [2]*replica
	canary          *replica
	gateway, client *proxy
	chaotic         *replica // before the client's proxy: sets the chaos header
	driver          driver
	dir             string
	stop            context.CancelFunc
}

const host = "payments.payments.svc.cluster.local"

func startMesh(ctx context.Context) (m *mesh, err error) {
	ctx, cancel := context.WithCancel(ctx)
	m = &mesh{stop: cancel}
	defer func() {
		if err != nil {
			m.close()
		}
	}()
	if m.dir, err = os.MkdirTemp("", "retry"); err != nil {
		return nil, err
	}
	if m.driver, err = newDriver(ctx, m.dir); err != nil {
		return nil, err
	}
	if m.service, err = startService(ctx, m.dir); err != nil {
		return nil, err
	}
	for _, pod := range []**replica{&m.stable[0], &m.stable[1], &m.canary} {
		if *pod, err = startReplica(ctx, m.service.addr, false); err != nil {
			return nil, err
		}
	}
	if err = m.startGateway(ctx); err != nil {
		return nil, err
	}
	if err = m.startClient(ctx); err != nil {
		return nil, err
	}
	m.chaotic, err = startReplica(ctx, m.client.ports["ours"], true)
	return m, err
}

func (m *mesh) close() {
	m.stop()
	for _, p := range []*proxy{m.gateway, m.client} {
		if p != nil {
			_ = p.cmd.Wait() // killed with its context
		}
	}
	_ = os.RemoveAll(m.dir)
}

// startGateway starts the second hop: the faults of fault-injection.yaml, and a pod's own proxy with the limit of rate-limit.yaml.
func (m *mesh) startGateway(ctx context.Context) error {
	var chaos networking.VirtualService
	if err := resource("fault-injection.yaml", "VirtualService", &chaos); err != nil {
		return err
	}
	var filter networking.EnvoyFilter
	if err := resource("rate-limit.yaml", "EnvoyFilter", &filter); err != nil {
		return err
	}
	faults, err := routes(&chaos)
	if err != nil {
		return err
	}
	limited, err := rateLimit(&filter)
	if err != nil {
		return err
	}
	gateway, err := listener("chaos", faults)
	if err != nil {
		return err
	}
	all := "outbound|80||" + host
	inbound, err := listener("inbound", []*routev3.Route{{
		Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: all}}},
	}}, limited)
	if err != nil {
		return err
	}
	pods, err := cluster(all, nil, []string{m.stable[0].addr, m.canary.addr})
	if err != nil {
		return err
	}
	m.gateway, err = startProxy(ctx, m.dir, "gateway", []*listenerv3.Listener{gateway, inbound}, []*clusterv3.Cluster{pods})
	return err
}

// startClient starts the proxy of a client: one listener with our routes, one with the article's.
func (m *mesh) startClient(ctx context.Context) error {
	var rule networking.DestinationRule
	if err := resource("destination-rule.yaml", "DestinationRule", &rule); err != nil {
		return err
	}
	var listeners []*listenerv3.Listener
	for name, file := range map[string]string{"ours": "virtual-service.yaml", "article": "testdata/article-fault.yaml"} {
		var service networking.VirtualService
		if err := resource(file, "VirtualService", &service); err != nil {
			return err
		}
		translated, err := routes(&service)
		if err != nil {
			return err
		}
		l, err := listener(name, translated)
		if err != nil {
			return err
		}
		listeners = append(listeners, l)
	}
	var clusters []*clusterv3.Cluster
	for name, pods := range map[string][]string{
		"outbound|80|stable|" + host: {m.stable[0].addr, m.stable[1].addr}, "outbound|80|canary|" + host: {m.canary.addr},
		"outbound|80||chaos-gateway.payments.svc.cluster.local": {m.gateway.ports["chaos"]},
	} {
		policy := &rule
		if pods[0] == m.gateway.ports["chaos"] {
			policy = nil // another host: the rule is not about it
		}
		c, err := cluster(name, policy, pods)
		if err != nil {
			return err
		}
		clusters = append(clusters, c)
	}
	var err error
	m.client, err = startProxy(ctx, m.dir, "client", listeners, clusters)
	return err
}
