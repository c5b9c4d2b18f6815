package simulation

import (
	"encoding/csv"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	plotsTo = flag.String("plots", "", "write the plots of docs/explanation/simulation.md and their figures to this folder")
	samples = flag.Int("samples", 20, "stops for each point of a plot")
	pods    = flag.Int("pods", 1000, "pods of the rollout")
)

// sample is one stop: a row of the raw data.
type sample struct {
	plot       string
	x          float64
	seed       uint64
	held       time.Duration
	lost, left int
}

// plot is a row of points along one setting.
type plot struct {
	name, title, axis string
	at                []float64
	set               func(sc *scenario, x float64)
}

var plots = []plot{ //nolint:gochecknoglobals // a table
	{"propagation", "20 new connections a second, by way of kube-proxy", "--propagation, s", []float64{0.5, 1, 1.5, 2, 3, 5, 8, 12}, func(sc *scenario, x float64) {
		sc.Propagation = time.Duration(x * 1e9)
		sc.Clients = []clientSpec{{Kind: fresh, Every: 50 * ms, Work: 10 * ms}}
	}},
	{"balancer", "20 new connections a second, --propagation=1.5s", "the balancer sends them here for … s after the deletion", []float64{0.5, 1, 1.5, 2, 3, 5, 10, 15, 20, 25}, func(sc *scenario, x float64) {
		sc.Routed = time.Duration(x * 1e9)
		sc.Clients = []clientSpec{{Kind: fresh, Every: 50 * ms, Work: 10 * ms}}
	}},
	{"pool", "connections that are each used every 10 s", "connections", []float64{1, 3, 10, 30, 100, 300, 1000}, func(sc *scenario, x float64) {
		sc.Clients = []clientSpec{{Kind: pooled, Conns: int(x), Every: 10 * sec, Work: 10 * ms}}
	}},
	{"reuse", "100 connections", "each is used every … s", []float64{0.3, 1, 3, 10, 30, 60}, func(sc *scenario, x float64) {
		sc.Clients = []clientSpec{{Kind: pooled, Conns: 100, Every: time.Duration(x * 1e9), Work: 10 * ms}}
	}},
	{"reuse-poisson", "100 connections, used at random (Poisson)", "each is used every … s", []float64{0.3, 1, 3, 10, 30, 60}, func(sc *scenario, x float64) {
		sc.Clients = []clientSpec{{Kind: pooled, Conns: 100, Every: time.Duration(x * 1e9), Poisson: true, Work: 10 * ms}}
	}},
}

// TestPlots writes the plots and their raw data where -plots says.
func TestPlots(t *testing.T) {
	if *plotsTo == "" {
		t.Skip("-plots names no folder to write to: -plots=DIR")
	}
	var all []sample
	for _, p := range plots {
		var rows []sample
		for _, x := range p.at {
			for seed := range uint64(*samples) {
				sc := calm(seed)
				sc.Warm = 60 * sec
				p.set(&sc, x)
				rows = append(rows, stopOf(t, p.name, x, sc))
			}
		}
		writePlot(t, p, rows)
		all = append(all, rows...)
	}
	rows := rollout(t, *pods)
	writePlot(t, plot{name: "rollout", title: fmt.Sprintf("a rollout of %d pods, 5%% at a time, %d connections used every 10 s", *pods, *pods*30), axis: "% of the rollout"}, rows)
	writeData(t, append(all, rows...))
	fmt.Printf("plots: %s, %s/%s, %d processors, %s, n = %d stops a point\n",
		time.Now().UTC().Format(time.DateOnly), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), *samples)
}

func stopOf(t *testing.T, name string, x float64, sc scenario) sample {
	t.Helper()
	p := play(t, sc, false)
	for _, broken := range p.judge() {
		t.Errorf("%s at %v, seed %d: %s", name, x, sc.Seed, broken)
	}
	return sample{name, x, sc.Seed, p.atRelease.at - p.t0, len(p.lost), p.atRelease.conns}
}

// rollout replaces all pods, a twentieth at a time. A connection that is told to leave, or loses its pod, goes to a pod that stays: old
// ones have ever more of them.
func rollout(t *testing.T, pods int) []sample {
	t.Helper()
	d := newDice(1, "rollout", pods)
	conns := make([]int, pods) // of the old pods that are left
	for i := range conns {
		conns[i] = 30
	}
	newPods := 0
	var rows []sample
	for batch := max(1, pods/20); len(conns) > 0; {
		n := min(batch, len(conns))
		stopping := conns[:n]
		conns = conns[n:]
		newPods += n
		for i, c := range stopping {
			sc := calm(uint64(pods - len(conns) - n + i + 1))
			sc.Clients = []clientSpec{{Kind: pooled, Conns: c, Every: 10 * sec, Work: 10 * ms}}
			rows = append(rows, stopOf(t, "rollout", float64(100*(pods-len(conns)))/float64(pods), sc))
			for range c {
				if at := d.IntN(len(conns) + newPods); at < len(conns) {
					conns[at]++
				}
			}
		}
	}
	return rows
}

func writeData(t *testing.T, rows []sample) {
	t.Helper()
	var text strings.Builder
	w := csv.NewWriter(&text)
	_ = w.Write([]string{"plot", "x", "seed", "held_ms", "lost", "connections_left"})
	for _, r := range rows {
		_ = w.Write([]string{r.plot, strconv.FormatFloat(r.x, 'g', -1, 64), strconv.FormatUint(r.seed, 10), strconv.FormatInt(r.held.Milliseconds(), 10), strconv.Itoa(r.lost), strconv.Itoa(r.left)})
	}
	w.Flush()
	writeFile(t, "simulation.csv", text.String())
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(*plotsTo, name), []byte(text), 0o644); err != nil { //nolint:gosec // a page of the docs
		t.Fatal(err)
	}
}
