package cached

import "context"

// The releases of other programs that stop Envoys, which are measured and run beside the agent.
const (
	EnvoyGatewayVersion = "v1.9.1"
	ContourVersion      = "v1.33.8"

	EnvoyGatewayModule = "github.com/envoyproxy/gateway"
	ContourModule      = "github.com/projectcontour/contour"
)

// EnvoyGateway returns Envoy Gateway's program: the control plane, and with `envoy shutdown-manager` what stops its Envoys.
func EnvoyGateway(ctx context.Context) (string, error) {
	return GoProgram(ctx, EnvoyGatewayModule+"/cmd/envoy-gateway", EnvoyGatewayVersion)
}

// Contour returns Contour's program, which holds both as well.
func Contour(ctx context.Context) (string, error) {
	return GoProgram(ctx, ContourModule+"/cmd/contour", ContourVersion)
}
