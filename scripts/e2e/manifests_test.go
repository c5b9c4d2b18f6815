//go:build e2e

package e2e

import (
	"os"
	"strings"
	"testing"
)

// The API server takes every manifest as it stands, and has nothing to say about its security.
func TestManifestsAreAccepted(t *testing.T) {
	t.Parallel()
	for level, names := range map[string][]string{
		"restricted": {"native", "classic", "job", "gateway", "mtls", "good-service", "better-service"},
		"baseline":   {"bad-service"},
	} {
		ns := namespace(t, level)
		kubectl(t, "label", "namespace", ns, "pod-security.kubernetes.io/warn="+level)
		for _, name := range names {
			cmd := kubectlCommand(t.Context(), "apply", "--dry-run=server", "--validate=strict", "-f", "-")
			cmd.Stdin = strings.NewReader(inNamespace(t, name, ns))
			if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "Warning: would violate") {
				t.Errorf("%s: %v: %s", name, err, out)
			}
		}
	}
}

// inNamespace is the text of a manifest without its Namespace object, its names of namespaces exchanged.
func inNamespace(t *testing.T, name, ns string) string {
	t.Helper()
	text, err := os.ReadFile(manifest(name))
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		if !strings.Contains(document, "kind: Namespace\n") {
			kept = append(kept, namespaces.ReplaceAllString(document+"\n", "namespace: "+ns))
		}
	}
	return strings.Join(kept, "---\n")
}
