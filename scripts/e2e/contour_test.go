//go:build e2e

package e2e

import (
	"os"
	"testing"

	"github.com/drain-agent/drain-agent/scripts/cached"
)

// installContour does what Contour's quickstart does, file by file, but for its Envoys.
func installContour(t *testing.T, p controlPlane) {
	t.Helper()
	program, err := cached.Contour(t.Context())
	loadProgram(t, "ghcr.io/projectcontour/contour:"+p.version, program, err)
	for _, file := range []string{
		"00-common.yaml", "01-crds.yaml", "01-contour-config.yaml", "02-job-certgen.yaml", "02-rbac.yaml", "02-role-contour.yaml",
		"02-service-contour.yaml", "03-contour.yaml",
	} {
		text := moduleFile(t, cached.ContourModule, p.version, "examples", "contour", file)
		feed(t, text, "apply", "--server-side", "--validate=false", "-f", "-")
		t.Cleanup(func() { feed(t, text, "delete", "--ignore-not-found", "--wait=false", "-f", "-") })
	}
	kubectl(t, "-n", p.ns, "wait", "--for=condition=Complete", "job", "--all", "--timeout=120s")
	kubectl(t, "-n", p.ns, "rollout", "status", "deployment/contour", "--timeout=180s")
}

// startContour starts Contour's Deployment of Envoys, as it is or after one command.
func startContour(t *testing.T, p controlPlane, payments string, agent bool) *workload {
	t.Helper()
	deployment := moduleFile(t, cached.ContourModule, p.version, "examples", "deployment", "03-envoy-deployment.yaml")
	if agent {
		deployment = drainctl(t, deployment, "inject", "-f", "-")
	}
	service := moduleFile(t, cached.ContourModule, p.version, "examples", "contour", "02-service-envoy.yaml")
	w := parse(t, []byte(string(service)+"\n---\n"+string(deployment)), p.ns)
	w.proxy = "envoy"
	w.service.Spec.Ports = w.service.Spec.Ports[:1] // nobody asks for TLS, so its Envoys listen for none
	envoy := w.container("envoy")
	envoy.Image = "envoyproxy/envoy:v" + p.envoy // the node cannot pull theirs
	for i := range envoy.Ports {
		envoy.Ports[i].HostPort = 0 // one node has each port once
	}
	ingress, err := os.ReadFile("testdata/gateways/ingress.yaml")
	if err != nil {
		t.Fatal(err)
	}
	feed(t, ingress, "-n", payments, "apply", "-f", "-")
	w.start(t)
	t.Cleanup(func() {
		kubectl(t, "-n", p.ns, "delete", "deployment/"+w.deployment.Name)
		allGone(t, p.ns, w.selector())
	})
	return w
}
