//go:build e2e

package e2e

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Row 3, the article's first test: an app that needs 45 s to start.
func TestStartupRace(t *testing.T) {
	t.Parallel()
	t.Run("bad service ends in CrashLoopBackOff", func(t *testing.T) {
		t.Parallel()
		ns := namespace(t, "baseline")
		seen := watch(t, ns)
		bad := load(t, "bad-service", ns).replicas(1)
		bad.apply(t)
		eventually(t, 7*time.Minute, "the app was restarted twice and waits in CrashLoopBackOff", func() bool {
			return slices.ContainsFunc(pods(t, ns, bad.selector()), func(pod corev1.Pod) bool {
				app := status(pod, "app")
				return app.RestartCount >= 2 && crashLoops(seen.of(pod.Name))
			})
		})
	})
	for _, name := range []string{"good-service", "better-service"} {
		t.Run(name+" starts without a restart", func(t *testing.T) {
			t.Parallel()
			good := load(t, name, namespace(t, "restricted")).replicas(1)
			began := time.Now()
			good.start(t)
			if took := time.Since(began); took < 45*time.Second {
				t.Errorf("ready after %v: the app did not need its 45 s", took)
			}
			for _, pod := range pods(t, good.ns, good.selector()) {
				for _, container := range good.containers() {
					if n := status(pod, container.Name).RestartCount; n != 0 {
						t.Errorf("%s of %s was restarted %d times", container.Name, pod.Name, n)
					}
				}
			}
		})
	}
}

func crashLoops(states []podState) bool {
	return slices.ContainsFunc(states, func(s podState) bool {
		waiting := status(s.pod, "app").State.Waiting
		return waiting != nil && waiting.Reason == "CrashLoopBackOff"
	})
}

// The app never starts before its proxy answers, in either shape. This Envoy takes 5 s to be ready: it waits that long for
// clusters from a server that does not exist.
func TestAppStartsAfterItsProxy(t *testing.T) {
	t.Parallel()
	const delay = 5 * time.Second
	for _, shape := range []string{"native", "classic"} {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			w := load(t, shape, namespace(t, "restricted")).replicas(1)
			w.configs[0].Data["envoy.yaml"] += `
  - name: nobody
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    load_assignment:
      cluster_name: nobody
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 9}}}}]}]
node: {id: slow, cluster: slow}
dynamic_resources:
  cds_config:
    resource_api_version: V3
    initial_fetch_timeout: 5s
    api_config_source: {api_type: GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: nobody}}]}
`
			w.start(t)
			pod := pods(t, w.ns, w.selector())[0]
			proxy, app := status(pod, "proxy").State.Running.StartedAt, status(pod, "app").State.Running.StartedAt
			if gap := app.Sub(proxy.Time); gap < delay-time.Second { // the API gives whole seconds
				t.Errorf("the app started %v after its proxy, which needed %v to be ready", gap, delay)
			}
			for _, container := range w.containers() {
				if n := status(pod, container.Name).RestartCount; n != 0 {
					t.Errorf("%s was restarted %d times", container.Name, n)
				}
			}
		})
	}
}
