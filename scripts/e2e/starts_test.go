//go:build e2e

package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// notRun is what a manifest says in its first line that nobody has started: it may be right, and no table names it as tried.
const notRun = "not run"

// manifestsNotRun is how many there are. It may only become smaller.
const manifestsNotRun = 0

// Every manifest of deploy/ starts on a real node as it stands, and its pods become ready: all but bad-service, which is there
// to be restarted for ever (TestStartupRace sees it).
func TestEveryManifestStarts(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"better-service", "classic", "good-service", "native"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			load(t, name, namespace(t, "baseline")).start(t)
		})
	} // mtls, gateway and job need a secret or a service to lead to: TestGatewayCountsEachClient, TestJob
}

// Every file of istio/ is taken by a real Istio, whose webhook looks at it, and its pods become ready there.
func TestEveryIstioManifestStarts(t *testing.T) {
	onlyMesh(t)
	files, err := filepath.Glob("../../istio/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in istio/: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(file)
		if saysNotRun(text) || name == "injection-template.yaml" { // values of a chart: TestIstioRollout starts its pods
			continue
		}
		t.Run(name, func(t *testing.T) {
			ns := namespace(t, "privileged")
			text := namespaces.ReplaceAll(text, []byte("namespace: "+ns))
			feed(t, text, "-n", ns, "apply", "-f", "-")
			if bytes.Contains(text, []byte("\nkind: Deployment\n")) {
				kubectl(t, "-n", ns, "rollout", "status", "deployment", "--timeout=120s")
			}
		})
	}
}

// What cannot be started here says so, and there are no more of them than there were.
func TestManifestsThatNobodyStartedAreCounted(t *testing.T) {
	count := 0
	for _, pattern := range []string{"../../istio/*.yaml", "../../deploy/manifests/*.yaml", "../../docs/*.yaml", "../../docs/*/*.yaml", "../../docs/*/*/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if saysNotRun(text) {
				t.Logf("%s: %s", file, notRun)
				count++
			}
		}
	}
	if count != manifestsNotRun {
		t.Errorf("%d manifests say %q in their first line, want %d", count, notRun, manifestsNotRun)
	}
}

func saysNotRun(text []byte) bool {
	first, _, _ := strings.Cut(string(text), "\n")
	return strings.Contains(first, notRun)
}
