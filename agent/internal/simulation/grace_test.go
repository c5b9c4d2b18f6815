package simulation

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A budget for `make test`; `make advice` reads enough stops to be sure of 99.9 %.
var (
	readStops  = flag.Int("read", 400, "GracePeriod: how many stops advise reads; it takes 2995 to be sure of 99.9 %")
	graceTable = flag.String("table", "", "GracePeriod: add a line for each share to this file")
	otherStops = flag.Int("other", 600, "GracePeriod: how many others get the grace period that it names")
)

// The grace period that drainctl advise is sure of holds its share of stops that it has not seen and that really have it, in virtual time:
// streams whose lengths differ widely from stop to stop, so that the longest of some thousands is far beyond the usual one.
func TestGracePeriodHoldsItsShare(t *testing.T) {
	logs := t.TempDir()
	for seed := range uint64(*readStops) {
		p := play(t, streaming(seed, 10*time.Minute), false)
		v := p.verdicts[len(p.verdicts)-1]
		if !inTime(p) {
			t.Fatalf("seed %d: %s; its grace period is meant to hold any stop", seed, v.Reason)
		}
		line, _ := v.MarshalJSON() // never fails
		if err := os.WriteFile(filepath.Join(logs, fmt.Sprintf("web-%d.jsonl", seed)), append(line, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var said advised
	out, err := exec.CommandContext(t.Context(), built(t), "advise", "--from="+logs, "--output=json", "--try=quiet-max=1s", "--shares=0.99,0.999").Output()
	if err == nil {
		err = json.Unmarshal(out, &said)
	}
	if err != nil || len(said.Workloads) != 1 {
		t.Fatalf("%v\n%s", err, out)
	}
	for i, share := range []float64{0.99, 0.999} {
		g := said.Workloads[0].Grace[i]
		if enough := math.Pow(share, float64(*readStops)) <= 0.05; g.Sure != enough || g.Seconds == nil {
			t.Fatalf("%v of stops: %+v of %d that were read", share, g, *readStops)
		}
		if g.Sure {
			holds(t, share, time.Duration(*g.Seconds)*sec)
		}
	}
}

// holds lets other stops have the grace period.
func holds(t *testing.T, share float64, grace time.Duration) {
	t.Helper()
	held := 0
	for seed := range uint64(*otherStops) {
		p := play(t, streaming(1_000_000+seed, grace), false)
		if inTime(p) {
			held++
		}
	}
	t.Logf("%g %%: of %d stops in virtual time advise names %v; of %d others it holds %d, %.3f %%", 100*share, *readStops, grace, *otherStops, held, 100*float64(held)/float64(*otherStops))
	tabled(t, fmt.Sprintf("%g %%\t%d\t%d s\t%d\t%d\n", 100*share, *readStops, int(grace.Seconds()), *otherStops, held))
	if n := float64(*otherStops); float64(held) < share*n-2.33*math.Sqrt(n*share*(1-share)) { // fewer are chance in one of a hundred cases
		t.Errorf("%v of %d stops were promised, %d are held", share, *otherStops, held)
	}
}

// tabled adds a line to the table, where one is asked for.
func tabled(t *testing.T, line string) {
	t.Helper()
	if *graceTable == "" {
		return
	}
	f, err := os.OpenFile(*graceTable, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(line); err != nil {
		t.Fatal(err)
	}
}

// inTime reports whether the grace period did not end the stop. A request that comes at the last moment and is longer than the app's own
// share is cut whatever the grace period is.
func inTime(p *pod) bool {
	v := p.verdicts[len(p.verdicts)-1]
	return v.Outcome == "clean" || strings.Contains(v.Reason, "did not end within its share") && !strings.Contains(v.Reason, "grace period")
}

// streaming is a pod with a few streams, whose lengths have a heavy tail over stops.
func streaming(seed uint64, grace time.Duration) scenario {
	sc, d := calm(seed), newDice(seed, "streaming", 0)
	takes := time.Duration(float64(3*sec) * math.Exp(0.6*d.NormFloat64()))
	sc.AppManner, sc.Warm = graceful, 3*takes
	sc.Clients = []clientSpec{{Kind: stream, Conns: 1 + d.IntN(3), Every: 2 * takes, Work: takes}}
	sc.Grace, sc.RealGrace = grace, grace
	return sc
}

// built is drainctl.
func built(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "drainctl")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../../../deploy/drainctl").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}
