package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

// An agent lives as long as its pod, for weeks: whatever comes again and again (containers that restart, hooks of strangers, an operator's
// maintenance, readers of its pages) leaves nothing behind. SOAK says how many rounds; a few without it.
func TestAgentLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	rounds := 4
	if text := os.Getenv("SOAK"); text != "" {
		var err error
		if rounds, err = strconv.Atoi(text); err != nil || rounds < 4 {
			t.Fatalf("SOAK=%s: want a number of rounds, at least 4", text)
		}
	}
	u := start(t, setup{uds: true, agent: []string{"--confirm-window=300ms", "--restart-max=600ms"}})
	var first footprint
	for i := range rounds {
		u.round(i + 1)
		switch i {
		case 1: // what is made once is there
			first = u.footprint("agent")
		case rounds - 1:
			last := u.footprint("agent")
			t.Logf("after 2 rounds %v, after %d %v", first, rounds, last)
			if last.files > first.files+2 || last.threads > first.threads+4 || last.resident > first.resident+8<<10 {
				t.Errorf("the agent grew from %v to %v", first, last)
			}
		}
	}
	u.stop()
	u.verdict("clean")
}

// round is everything that may come again, once.
func (u *under) round(n int) {
	if n <= 4 { // kubelet waits longer before each restart
		u.Restart("app")
		u.until("the app to be back", func() bool { return u.happened("app", pod.Started) == n+1 && u.Ready() })
	}
	u.mustServe("stray hook", u.call(u.t.Context(), "proxy"))
	u.operate("drain", "--reason=soak")
	u.phase("maintenance", n)
	u.operate("undrain", "--reason=soak")
	u.until("the agent to serve", func() bool { return strings.Contains(u.status(), `"phase":"serving"`) })
	for range 50 {
		u.mustServe("status", get(u.t.Context(), keepNothing(), u.url(agentPort, "/status")))
		u.mustServe("metrics", get(u.t.Context(), keepNothing(), u.url(agentPort, "/metrics")))
	}
	u.mustServe("request", u.fresh(u.t.Context(), "/work?ms=1"))
}

// footprint is what a process holds.
type footprint struct {
	files, threads int
	resident       int // KiB
}

func (f footprint) String() string {
	return fmt.Sprintf("%d files, %d threads, %d KiB resident", f.files, f.threads, f.resident)
}

func (u *under) footprint(container string) (f footprint) {
	u.t.Helper()
	dir := fmt.Sprintf("/proc/%d", u.Pid(container))
	open, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		u.t.Fatal(err)
	}
	f.files = len(open)
	text, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		u.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch n, _ := strconv.Atoi(fields[1]); fields[0] {
		case "Threads:":
			f.threads = n
		case "VmRSS:":
			f.resident = n
		}
	}
	return f
}
