package main

import (
	"os"
	"os/exec"
	"testing"
)

// A helper's hook is a process of its own, and counts.
func TestEveryProcessOfAProgramCounts(t *testing.T) {
	if os.Getenv("BENCH_HOOK") != "" {
		_, _ = os.Stdin.Read(make([]byte, 1)) // until the test closes it
		os.Exit(0)
	}
	_, alone, err := spent(os.Getpid())
	if err != nil || alone <= 0 {
		t.Fatalf("%v MiB, %v", alone, err)
	}
	hook := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestEveryProcessOfAProgramCounts$")
	hook.Env = append(os.Environ(), "BENCH_HOOK=yes")
	in, err := hook.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := hook.Start(); err != nil {
		t.Fatal(err)
	}
	own, err := peakMiB("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	if _, both, err := spent(hook.Process.Pid); err != nil || both <= own {
		t.Errorf("%v MiB of both, %v of this one, %v", both, own, err)
	}
	in.Close()
	if err := hook.Wait(); err != nil {
		t.Error(err)
	}
}
