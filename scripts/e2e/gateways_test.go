//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"flag"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/scripts/cached"
	"github.com/drain-agent/drain-agent/scripts/load/openloop"
)

var gateways = flag.Bool("gateways", false, "the tests under the control planes of Envoy Gateway and Contour, which are built from their modules")

const (
	asItComes = "as it comes" // with its own shutdown manager

	// enough is how many requests pods with the agent must have had under each control plane, none of them lost.
	enough = 20_000
)

// A controlPlane starts Envoys and says how they stop.
type controlPlane struct {
	name, version, envoy string // envoy is the release of its Envoys: its own, or what stands next to it
	ns                   string
	install              func(t *testing.T, p controlPlane)
	// start brings two of its Envoys, which lead to the Service payments of a namespace, stopped as it is or by the agent.
	start func(t *testing.T, p controlPlane, payments string, agent bool) *workload
}

func controlPlanes() []controlPlane {
	return []controlPlane{
		{"Envoy Gateway", cached.EnvoyGatewayVersion, "1.39.1", "envoy-gateway-system", installEnvoyGateway, startEnvoyGateway},
		{"Contour", cached.ContourVersion, "1.38.3", "projectcontour", installContour, startContour}, // 1.38.9 in its manifests
	}
}

// Other people's gateways under their real control planes, rolled under the same load: with the agent, which loses nothing, and
// stopped by their own shutdown managers, for the figures beside it.
func TestControlPlanes(t *testing.T) {
	if !*gateways {
		t.Skip("needs the control planes: scripts/e2e/run --gateways")
	}
	var rows []Row
	for _, p := range controlPlanes() {
		t.Run(p.name+" "+p.version+", Envoy "+p.envoy, func(t *testing.T) {
			loadEnvoy(t, p.envoy)
			p.install(t, p)
			payments := backend(t)
			t.Run(DrainAgent, func(t *testing.T) {
				w, r := p.roll(t, payments, true)
				drained(t, w, r)
				if r.load.Requests < enough && !*brief {
					t.Errorf("%d requests, want %d: -rollouts=%d was too little", r.load.Requests, enough, *rollouts)
				}
				rows = append(rows, Row{p.name, DrainAgent, r.load.Requests, r.load.Failed, r.failedPer, r.stops})
			})
			t.Run(asItComes, func(t *testing.T) {
				w, r := p.roll(t, payments, false)
				t.Logf("hooks that kubelet says failed: %d", len(failedHooks(t, w.ns)))
				rows = append(rows, Row{p.name, asItComes, r.load.Requests, r.load.Failed, r.failedPer, r.stops})
			})
		})
	}
	t.Log("| Gateway | Stopped by | Rollouts | Requests | Failed | Per 100,000, median | Seconds per stop, min / median / max |")
	for _, row := range rows {
		t.Log(row)
	}
}

// roll starts the Envoys and replaces them under load; they are gone when the test is.
func (p controlPlane) roll(t *testing.T, payments string, agent bool) (*workload, rollout) {
	t.Helper()
	w := p.start(t, p, payments, agent)
	leads(t, w.target(t))
	return w, rollAgain(t, w, *rollouts, func(plan *openloop.Plan) {
		if *brief {
			narrow(plan)
		}
	})
}

// backend is the service that both lead to, which no rollout touches: HTTP/2 without TLS carries everything that the load sends.
func backend(t *testing.T) string {
	t.Helper()
	w := parse(t, meshFile(t, "payments.yaml"), namespace(t, "baseline"))
	w.service.Spec.Ports[0].AppProtocol = new("kubernetes.io/h2c")                                   // as the Gateway API says it
	w.service.Annotations = map[string]string{"projectcontour.io/upstream-protocol.h2c": "80,mixed"} // and as Contour does
	w.start(t)
	return w.ns
}

// loadEnvoy gives the node the image of a release of Envoy.
func loadEnvoy(t *testing.T, version string) {
	t.Helper()
	if !onNode(t, "envoyproxy/envoy:v"+version) {
		command(t, []string{"E2E_ENVOY=" + version}, "./images", "envoy")
	}
}

// loadProgram gives the node an image that holds nothing but a static program, under the name that a control plane gives its own.
func loadProgram(t *testing.T, image, program string, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if onNode(t, image) {
		return
	}
	path := "/usr/local/bin/" + filepath.Base(program)
	command(t, nil, clusterScript, "image", "-name", image, "-add", program+":"+path, "-add", program+":/bin/"+filepath.Base(program), "-entrypoint", path)
}

// onNode reports whether the node has an image: one of a release is never another.
func onNode(t *testing.T, image string) bool {
	t.Helper()
	names := kubectl(t, "get", "nodes", "-o", "jsonpath={.items[*].status.images[*].names[*]}")
	return slices.ContainsFunc(strings.Fields(string(names)), func(name string) bool { return strings.HasSuffix(name, image) })
}

func command(t *testing.T, env []string, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return out
}

// moduleFile reads a file of a control plane's module.
func moduleFile(t *testing.T, module, version string, path ...string) []byte {
	t.Helper()
	dir, err := cached.GoModule(t.Context(), module, version)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(append([]string{dir}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// leads waits until a gateway has its routes in every pod.
func leads(t *testing.T, target string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	eventually(t, time.Minute, "the gateway leads to the payments", func() bool {
		for range 20 {
			response, err := client.Get("http://" + target + "/work?ms=1")
			if err != nil {
				return false
			}
			response.Body.Close()
			if response.StatusCode != http.StatusOK {
				return false
			}
		}
		return true
	})
}

// failedHooks lists the hooks in a namespace that kubelet could not run to their end.
func failedHooks(t *testing.T, ns string) []string {
	t.Helper()
	events := kubectl(t, "-n", ns, "get", "events", "--field-selector=reason=FailedPreStopHook", "-o",
		`jsonpath={range .items[*]}{.involvedObject.name} {.message}{"\n"}{end}`)
	return strings.FieldsFunc(string(bytes.TrimSpace(events)), func(r rune) bool { return r == '\n' })
}
