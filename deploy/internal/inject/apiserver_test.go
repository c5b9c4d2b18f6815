//go:build e2e

package inject_test

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/drain-agent/drain-agent/deploy/internal/inject"
)

// TestAPIServerAcceptsWhatComesOut asks a real API server, which stores nothing. $KUBECTL is the kubectl to call with its
// arguments, such as "scripts/cluster/cluster kubectl" with an absolute path; without it, kubectl and its own configuration.
//
// It makes the namespaces that the manifests name and leaves them.
//
//	scripts/cluster/cluster up && KUBECTL="$PWD/scripts/cluster/cluster kubectl" go test -tags e2e -run APIServer ./deploy/internal/inject
func TestAPIServerAcceptsWhatComesOut(t *testing.T) {
	kubectl := strings.Fields(os.Getenv("KUBECTL"))
	if len(kubectl) == 0 {
		kubectl = []string{"kubectl"}
	}
	accepted, kinds := 0, map[string]int{}
	for name, text := range shapes(t) {
		for _, shape := range []string{"auto", "classic"} {
			if refusedClassic(name) && shape == "classic" {
				continue // refused: TestWhatCannotBeEditedIsExplained
			}
			o := options(name)
			o.Shape = shape
			out, reports, err := inject.File(name, text, o)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(text), "argoproj.io") || strings.Contains(string(text), "openshift.io") || strings.Contains(string(text), "kruise.io") {
				continue // kinds of others
			}
			for _, r := range reports { // a dry run needs the namespace all the same
				_ = exec.CommandContext(t.Context(), kubectl[0], append(kubectl[1:], "create", "namespace", r.Object.Namespace)...).Run()
			}
			cmd := exec.CommandContext(t.Context(), kubectl[0], append(kubectl[1:], "apply", "--dry-run=server", "--validate=strict", "-f", "-")...)
			cmd.Stdin = bytes.NewReader(out)
			if said, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s, %s: %v\n%s", name, shape, err, said)
				continue
			}
			accepted++
			for _, r := range reports {
				kinds[r.Object.Kind]++
			}
		}
	}
	t.Logf("accepted: %d outputs, workloads in them %v", accepted, kinds)
}
