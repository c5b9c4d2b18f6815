package inject

import (
	"errors"

	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
	"github.com/drain-agent/drain-agent/deploy/internal/roles"
)

// Proxy is the Envoy that was found in a pod.
type Proxy = roles.Envoy

// Where a proxy stands in its pod.
const (
	Regular   = roles.Regular
	Native    = roles.Native
	Admission = roles.Admission
)

// ExcludeInbound is the annotation with which a mesh leaves inbound ports alone; "" without a mesh. Sources: istio/api annotation;
// consul-k8s control-plane/connect-inject/constants/annotations_and_labels.go; kuma pkg/plugins/runtime/k8s/metadata/annotations.go;
// openservicemesh pkg/injector.
func ExcludeInbound(mesh string) string {
	return map[string]string{
		"istio": "traffic.sidecar.istio.io/excludeInboundPorts", "consul": "consul.hashicorp.com/transparent-proxy-exclude-inbound-ports",
		"kuma": "traffic.kuma.io/exclude-inbound-ports", "osm": "openservicemesh.io/inbound-port-exclusion-list",
	}[mesh]
}

// FindProxy finds the Envoy of a pod; see [manifest.Workload.Roles], which says the roles of the others too.
func FindProxy(w *manifest.Workload, named string, objects []*manifest.Object) (Proxy, error) {
	found := w.Roles(objects, named, nil)
	if !found.Envoy.Found() {
		return found.Envoy, errors.New(noEnvoy)
	}
	return found.Envoy, nil
}
