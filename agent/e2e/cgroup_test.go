package e2e

import (
	"path/filepath"
	"testing"

	"github.com/drain-agent/drain-agent/scripts/cgroup"
)

// limitCPU allows a process so many per cent of one processor.
func limitCPU(t *testing.T, pid, percent int) { limit(t, cgroup.CPU(percent), pid) }

// limitMemory lets the kernel kill the process above so many bytes.
func limitMemory(t *testing.T, pid, bytes int) { limit(t, cgroup.Memory(bytes), pid) }

func limit(t *testing.T, to cgroup.Limit, pid int) {
	t.Helper()
	undo, err := to(pid, filepath.Base(t.Name()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := undo(); err != nil {
			t.Error(err)
		}
	})
}
