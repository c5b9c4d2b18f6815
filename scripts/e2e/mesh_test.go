//go:build e2e

package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// namespaces that our files name: a dry run wants one that exists.
var namespaces = regexp.MustCompile(`namespace: (payments|gateway|demo)\b`)

// Istio's definitions are given to the API server, which then takes every file of istio/ and refuses what the article made up.
//
// Not beside other tests: with each definition the API server builds its schemas anew, and a starved one then answers nobody.
func TestMeshResourcesAreAccepted(t *testing.T) {
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "istio.io/api").Output()
	if err != nil {
		t.Fatal(err)
	}
	definitions := filepath.Join(strings.TrimSpace(string(dir)), "kubernetes", "customresourcedefinitions.gen.yaml")
	kubectl(t, "apply", "--server-side", "--validate=false", "-f", definitions)
	t.Cleanup(func() { kubectl(t, "delete", "-f", definitions) })
	kubectl(t, "wait", "--for=condition=Established", "--timeout=60s", "-f", definitions)
	files, err := filepath.Glob("../../istio/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in istio/: %v", err)
	}
	files = slices.DeleteFunc(files, func(file string) bool {
		return filepath.Base(file) == "injection-template.yaml" // values of a chart, no object: go test ./istio renders it
	})
	if said, err := dryRun(t, files...); err != nil {
		t.Errorf("%v\n%s", err, said)
	} else {
		t.Log(said)
	}
	said, err := dryRun(t, "../../istio/testdata/article-destination-rule.yaml")
	t.Logf("the article's DestinationRule: %s", said)
	for _, unknown := range []string{"circuitBreaker", "retryPolicy"} {
		if want := `unknown field "spec.trafficPolicy.` + unknown + `"`; err == nil || !strings.Contains(said, want) {
			t.Errorf("the article's DestinationRule was not refused with %s", want)
		}
	}
}

// dryRun asks the API server with strict validation, which stores nothing, and returns what it said.
func dryRun(t *testing.T, files ...string) (string, error) {
	t.Helper()
	var all bytes.Buffer
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(namespaces.ReplaceAll(text, []byte("namespace: default")))
		all.WriteString("\n---\n")
	}
	cmd := kubectlCommand(t.Context(), "apply", "--dry-run=server", "--validate=strict", "-f", "-")
	cmd.Stdin = &all
	said, err := cmd.CombinedOutput()
	return string(said), err
}
