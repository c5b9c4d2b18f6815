package probes

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// healthProbe is the program many pods run as their exec probe; from the module proxy, checked by the checksum database.
const healthProbe = "github.com/grpc-ecosystem/grpc-health-probe@v0.4.61"

// The exit codes are the program's own: 0 serving, 3 the call failed, 4 not serving.
func TestTheRealHealthProbe(t *testing.T) {
	program := installHealthProbe(t)
	r := registry(t, Config{Synthetic: []Check{{Name: "payment", Run: func(context.Context) error { return errors.New("declined") }}}})
	r.FailReadiness("draining")
	addr := serveGRPC(t, r)
	for service, want := range map[string]int{
		"": 4, "readiness": 4, "liveness": 0, "startup": 0, "synthetic-readiness": 4, "nobody": 3,
	} {
		cmd := exec.CommandContext(t.Context(), program, "-addr="+addr, "-service="+service)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("-service=%q: exit code %d, want %d: %s", service, got, want, out)
		}
	}
}

func installHealthProbe(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "install", healthProbe)
	cmd.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("install %s: %v\n%s", healthProbe, err, out)
	}
	return filepath.Join(dir, "grpc-health-probe")
}
