//go:build e2e

package e2e

import (
	"encoding/json"
	"os/exec"
	"testing"
)

// Istio's sidecar comes by Istio's webhook and the agent by ours, in both orders: the API server calls webhooks by the names of their
// configurations, and once more those that saw the pod too early. The Deployments say nothing of the agent.
func TestIstioController(t *testing.T) {
	onlyMesh(t)
	install := exec.CommandContext(t.Context(), "go", "run", "../../deploy/drainctl", "install", "--namespace=e2e-drain-system")
	objects, err := install.Output()
	if err != nil {
		t.Fatal(err)
	}
	feed(t, objects, "apply", "--server-side", "-f", "-")
	t.Cleanup(func() { feed(t, objects, "delete", "--ignore-not-found", "--wait=false", "-f", "-") })
	kubectl(t, "-n", "e2e-drain-system", "rollout", "status", "deployment/drain-controller", "--timeout=240s")
	for _, order := range []struct {
		name  string
		istio string // the name of Istio's webhooks' configuration
	}{{"ours first", "istio-sidecar-injector"}, {"Istio's first", "a-sidecar-injector"}} {
		t.Run(order.name, func(t *testing.T) {
			renameIstiosWebhooks(t, order.istio)
			for name, sidecar := range map[string]map[string]string{"native": nativeIstio, "classic": classicIstio} {
				t.Run(name, func(t *testing.T) {
					w := meshed(t, payments(t, sidecar, nil))
					kubectl(t, "label", "namespace", w.ns, "drain-agent.io/inject=enabled")
					kubectl(t, "annotate", "namespace", w.ns, "drain-agent.io/app-source=prometheus:http://127.0.0.1:8090/metrics#active_requests")
					r := roll(t, w, 1, throughTLS(t))
					for _, pod := range pods(t, w.ns, w.selector()) {
						if !hasAgent(pod) {
							t.Errorf("pod %s has no agent: %s", pod.Name, containerNames(pod))
						}
					}
					drained(t, w, r)
				})
			}
		})
	}
}

// renameIstiosWebhooks gives Istio's webhooks a place in the alphabet, until the test ends.
func renameIstiosWebhooks(t *testing.T, name string) {
	t.Helper()
	const kind, own = "mutatingwebhookconfiguration", "istio-sidecar-injector"
	if name == own {
		return
	}
	renamed := func(name string) []byte {
		var object map[string]any
		if err := json.Unmarshal(kubectl(t, "get", kind, own, "-o", "json"), &object); err != nil {
			t.Fatal(err)
		}
		labels := object["metadata"].(map[string]any)["labels"]
		object["metadata"] = map[string]any{"name": name, "labels": labels}
		text, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	before, after := renamed(own), renamed(name)
	feed(t, after, "create", "-f", "-")
	kubectl(t, "delete", kind, own)
	t.Cleanup(func() {
		feed(t, before, "create", "-f", "-")
		kubectl(t, "delete", kind, name)
	})
}
