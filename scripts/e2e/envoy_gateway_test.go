//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/drain-agent/drain-agent/scripts/cached"
)

// installEnvoyGateway does what `helm install eg oci://docker.io/envoyproxy/gateway-helm` does, with the chart of its module.
func installEnvoyGateway(t *testing.T, p controlPlane) {
	t.Helper()
	program, err := cached.EnvoyGateway(t.Context())
	image := "docker.io/envoyproxy/gateway:" + p.version
	loadProgram(t, image, program, err)
	module, err := cached.GoModule(t.Context(), cached.EnvoyGatewayModule, p.version)
	if err != nil {
		t.Fatal(err)
	}
	definitions := filepath.Join(module, "charts", "gateway-helm", "charts", "crds", "crds")
	kubectl(t, "apply", "--server-side", "--validate=false", "--recursive", "-f", definitions)
	t.Cleanup(func() { kubectl(t, "delete", "--recursive", "-f", definitions) })
	kubectl(t, "wait", "--for=condition=Established", "--timeout=60s", "--recursive", "-f", definitions)

	// A release replaces these two words; a chart's own values are in the file beside it, which the module has as a template only.
	text := moduleFile(t, cached.EnvoyGatewayModule, p.version, "charts", "gateway-helm", "values.tmpl.yaml")
	values := strings.NewReplacer("${GatewayImage}", image, "${GatewayImagePullPolicy}", "IfNotPresent").Replace(string(text))
	helm := exec.CommandContext(t.Context(), helmProgram(t), "template", "eg", filepath.Join(module, "charts", "gateway-helm"), //nolint:gosec // ours
		"--namespace="+p.ns, "--values=-", "--set=certgen.job.ttlSecondsAfterFinished=3600") // else a pod stops by itself, in half a minute
	helm.Stdin = strings.NewReader(values)
	var said bytes.Buffer
	helm.Stderr = &said
	rendered, err := helm.Output()
	if err != nil {
		t.Fatalf("render Envoy Gateway's chart: %v: %s", err, &said)
	}
	kubectl(t, "create", "namespace", p.ns)
	t.Cleanup(func() {
		kubectl(t, "delete", "namespace", p.ns, "--wait=false")
		feed(t, rendered, "-n", p.ns, "delete", "--ignore-not-found", "--wait=false", "-f", "-")
	})
	feed(t, rendered, "-n", p.ns, "apply", "--server-side", "--validate=false", "-f", "-")
	kubectl(t, "-n", p.ns, "wait", "--for=condition=Complete", "job", "--all", "--timeout=120s")
	kubectl(t, "-n", p.ns, "rollout", "status", "deployment/envoy-gateway", "--timeout=180s")
}

// startEnvoyGateway makes a Gateway with the EnvoyProxy that our page offers, or with what is left of it without its patch.
func startEnvoyGateway(t *testing.T, p controlPlane, payments string, agent bool) *workload {
	t.Helper()
	const gateway, owned = "testdata/gateways/gateway.yaml", "gateway.envoyproxy.io/owning-gateway-name=gateway"
	feed(t, envoyProxy(t, p, agent), "-n", payments, "apply", "-f", "-")
	kubectl(t, "-n", payments, "apply", "-f", gateway)
	t.Cleanup(func() {
		kubectl(t, "-n", payments, "delete", "-f", gateway)
		allGone(t, p.ns, owned)
	})
	return managed(t, p.ns, owned)
}

// envoyProxy changes what this node lacks: a registry, and somebody who gives addresses to load balancers.
func envoyProxy(t *testing.T, p controlPlane, agent bool) []byte {
	t.Helper()
	text, err := os.ReadFile("../../deploy/envoy-gateway/envoyproxy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	decode(t, text, &object, yaml.Unmarshal)
	provider := []string{"spec", "provider", "kubernetes"}
	set := func(value string, path ...string) {
		if err := unstructured.SetNestedField(object, value, append(slices.Clone(provider), path...)...); err != nil {
			t.Fatal(err)
		}
	}
	set("NodePort", "envoyService", "type")
	set("envoyproxy/envoy:v"+p.envoy, "envoyDeployment", "container", "image")
	if !agent {
		unstructured.RemoveNestedField(object, append(provider, "envoyDeployment", "patch")...)
	}
	if text, err = yaml.Marshal(object); err != nil {
		t.Fatal(err)
	}
	return text
}

// managed is what a control plane made: the Deployment and the Service of its Envoys, running.
func managed(t *testing.T, ns, selector string) *workload {
	t.Helper()
	var deployments appsv1.DeploymentList
	var services corev1.ServiceList
	list := func(kind string, into any) {
		if err := json.Unmarshal(kubectl(t, "-n", ns, "get", kind, "-l", selector, "-o", "json"), into); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 2*time.Minute, "the control plane has made its Envoys", func() bool {
		list("deployments", &deployments)
		list("services", &services)
		return len(deployments.Items) == 1 && len(services.Items) == 1
	})
	w := &workload{ns: ns, proxy: "envoy", deployment: &deployments.Items[0], service: &services.Items[0]}
	w.rolledOut(t)
	return w
}

// allGone waits until no pod has such labels, also where the test itself is over.
func allGone(t *testing.T, ns, selector string) {
	t.Helper()
	kubectl(t, "-n", ns, "wait", "--for=delete", "--timeout=7m", "pods", "-l", selector)
}
