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
	for _, name := range []string{"native", "classic", "job", "gateway", "good-service", "better-service"} {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t, "restricted")
			kubectl(t, "label", "namespace", ns, "pod-security.kubernetes.io/warn=restricted")
			cmd := kubectlCommand(t.Context(), "apply", "--dry-run=server", "-f", "-")
			cmd.Stdin = strings.NewReader(inNamespace(t, name, ns))
			if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "Warning: would violate") {
				t.Errorf("%v: %s", err, out)
			}
		})
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
			document += "\n"
			for _, old := range []string{"payments", "gateway", "demo"} {
				document = strings.ReplaceAll(document, "namespace: "+old+"\n", "namespace: "+ns+"\n")
			}
			kept = append(kept, document)
		}
	}
	return strings.Join(kept, "---\n")
}
