// Command bench measures what drain-agent costs and how fast it is, beside what people run today, on this machine.
// Nothing but the rollouts is compared with a goal: a busy machine prints worse figures and the spread says so.
//
//	make bench                          # about an hour, 40 minutes more where a node can run; the first time it also builds the peers
//	make bench-rollouts                 # only those 40 minutes
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/drain-agent/drain-agent/scripts/demo/demopod"
	"github.com/drain-agent/drain-agent/scripts/machine"
	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

type flags struct {
	Runs int      `default:"5" help:"Pod stops per figure; others are measured more often."`
	Only []string `enum:"lag,idle,death,cost,memory,size,ready,step,polls,payments,admission,ledger,peers,rollout" help:"Measure only these: lag, idle, death, cost, memory, size, ready, step, polls, payments, admission, ledger, peers, rollout."`
	Page string   `type:"path" placeholder:"FILE" help:"Also write the figures there as a page of the docs."`
	JSON string   `type:"path" placeholder:"FILE" help:"Also write every sample there."`
}

// bench is what the measurements share.
type bench struct {
	stage *demopod.Stage
	dir   string
	runs  int
	pods  int // started so far, for their names
}

// measurement fills in one or more figures.
type measurement struct {
	name    string
	measure func(*bench, context.Context) ([]figure, error)
}

func measurements() []measurement {
	return []measurement{
		{"lag", (*bench).lag},
		{"idle", (*bench).idle},
		{"death", (*bench).death},
		{"cost", (*bench).cost},
		{"memory", (*bench).memory},
		{"size", (*bench).size},
		{"ready", (*bench).ready},
		{"step", (*bench).step},
		{"polls", (*bench).polls},
		{"payments", (*bench).payments},
		{"admission", (*bench).admission},
		{"ledger", (*bench).ledger},
		{"peers", (*bench).peers},
		{"rollout", (*bench).rollout},
	}
}

func main() {
	pod.Helper()
	var f flags
	kong.Parse(&f, kong.Name("bench"), kong.Description("What drain-agent costs and how fast it is, beside what people run today."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, f)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, f flags) error {
	dir, err := os.MkdirTemp("/var/tmp", "drain-agent-bench-") // not in /tmp, which a pod may mount over
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	stage, err := demopod.Build(ctx, dir, pod.Auto)
	if err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	b := &bench{stage: stage, dir: filepath.Join(dir, "pods"), runs: f.Runs}
	before := machine.Load()
	var all []figure
	var failed error
	for _, m := range measurements() {
		if len(f.Only) > 0 && !slices.Contains(f.Only, m.name) {
			continue
		}
		began := time.Now()
		fmt.Fprintf(os.Stderr, "measuring %s ...", m.name)
		figures, err := m.measure(b, ctx)
		all = append(all, figures...)
		if errors.Is(err, errNoNode) && len(f.Only) == 0 { // nobody asked for it by name
			fmt.Fprintln(os.Stderr, " left out:", err)
			continue
		}
		if err != nil { // what others measured is worth having all the same
			fmt.Fprintln(os.Stderr, " failed:", err)
			failed = errors.Join(failed, fmt.Errorf("measure %s: %w", m.name, err))
			continue
		}
		fmt.Fprintf(os.Stderr, " %.0f s\n", time.Since(began).Seconds())
	}
	printFigures(os.Stdout, all)
	if f.Page != "" {
		failed = errors.Join(failed, writePage(f, all, before))
	}
	if f.JSON == "" {
		return failed
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(failed, os.WriteFile(f.JSON, append(text, '\n'), 0o644))
}
