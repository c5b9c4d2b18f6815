//go:build e2e

package e2e

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Every command of docs/tutorial/one-label.md, typed in its order: the agent comes with the label and the answer before the end.
func TestOneLabel(t *testing.T) {
	page, err := os.ReadFile("../../docs/tutorial/one-label.md")
	if err != nil {
		t.Fatal(err)
	}
	script := []string{`eval "$(scripts/cluster/cluster env)"`, "set -ex"}
	for line := range strings.Lines(string(page)) {
		if command, is := strings.CutPrefix(line, "    "); is {
			script = append(script, strings.TrimSpace(command))
		}
	}
	t.Cleanup(func() { // where it did not come to its last step
		kubectl(t, "delete", "namespace", "payments", "drain-system", "--ignore-not-found")
	})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // what the page promises
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", strings.Join(script, "\n")) //nolint:gosec // our own page
	cmd.Dir, cmd.WaitDelay = "../..", 20*time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"drain-agent,proxy", "worked 5000 ms", `"msg":"verdict","outcome":"clean"`, `"msg":"stop","stop":`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the page's commands never said %s:\n%s", want, out)
		}
	}
}
