package cgroup_test

import (
	"os/exec"
	"testing"

	"github.com/drain-agent/drain-agent/scripts/cgroup"
)

// What a process of the group holds is counted, and what goes above the limit is killed and counted.
func TestGroup(t *testing.T) {
	const limit = 16 << 20
	group, err := cgroup.NewGroup(limit, "test")
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := group.Remove(); err != nil {
			t.Error(err)
		}
	})
	holds := func(mebibytes string) (killed bool, used cgroup.Used) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "python3", "-c", "import sys; held = b'x' * (int(sys.argv[1]) << 20); print('held', flush=True); sys.stdin.read()", mebibytes)
		group.Start(cmd)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		said, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		_, _ = said.Read(make([]byte, 1)) // it holds them, or was killed
		used, err = group.Used()
		if err != nil {
			t.Fatal(err)
		}
		_ = in.Close()
		return cmd.Wait() != nil, used
	}
	if killed, used := holds("1"); killed || used.Kills != 0 || used.Anonymous < 1<<20 || used.Anonymous > used.Current || used.Current > used.Peak || used.Peak > limit || used.WorkingSet > used.Current {
		t.Errorf("killed %v, used %+v", killed, used)
	}
	killed, _ := holds("64")
	if used, err := group.Used(); err != nil || !killed || used.Kills != 1 {
		t.Errorf("killed %v, used %+v, %v", killed, used, err)
	}
}
