// Command faults plays what can go wrong while a pod stops: each fault with nothing in flight, with one long request and under load,
// in pods where the agent is a native sidecar and in classic ones, real Envoy and the agent's real binary in each. A line per cell says how
// the stop ended, whether every hook was answered before its deadline, how many requests were lost and whether the verdict is true.
//
//	go run ./scripts/faults
//	go run ./scripts/faults --cell "native/admin garbage/long"
//
// The exit status is 1 when a cell is not as it must be; it prints the command that plays it again.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/drain-agent/drain-agent/scripts/demo/demopod"
	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

type flags struct {
	Cell     []string `placeholder:"NAME" sep:"none" help:"Play these cells only: shape/fault/work; * matches all."`
	Parallel int      `default:"4" help:"How many pods stop at a time."`
	Times    int      `default:"1" help:"How often each cell is played."`
	TSV      string   `type:"path" placeholder:"FILE" help:"Also write the table there."`
	Page     string   `type:"path" placeholder:"FILE" help:"Also write a page with a row per fault there."`
	Rest     bool     `help:"Play only what the table in --tsv has not, or has as wrong; table and page get its rows too."`
	List     bool     `help:"Only list the cells."`
}

func main() {
	pod.Helper()
	inPod(os.Args[1:])
	var f flags
	kong.Parse(&f, kong.Name("faults"), kong.Description("What can go wrong while a pod stops, with what is in flight and in which pod."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, f)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, f flags) error {
	chosen, err := choose(f.Cell)
	if err != nil {
		return err
	}
	var earlier []row
	if f.Rest {
		if earlier, err = readTSV(f.TSV); err != nil {
			return err
		}
		chosen = slices.DeleteFunc(chosen, func(c cell) bool {
			return slices.ContainsFunc(earlier, func(r row) bool { return r.cell == c.name() && len(r.wrong) == 0 })
		})
	}
	if f.List {
		for _, c := range chosen {
			fmt.Println(c.name())
		}
		return nil
	}
	dir, err := os.MkdirTemp("", "faults-") // short: a Unix socket's path has 107 bytes
	if err != nil {
		return fmt.Errorf("make a folder for the pods: %w", err)
	}
	defer os.RemoveAll(dir)
	fmt.Fprintln(os.Stderr, "set-up: building the app and the agent, finding Envoy (a minute the first time)")
	stage, err := newStage(ctx, dir)
	if err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	rows := play(ctx, stage, dir, chosen, f)
	if err := ctx.Err(); err != nil {
		return errors.New("interrupted; all pods are gone")
	}
	write(os.Stdout, rows)
	judged := judge(rows)
	rows = merge(earlier, rows)
	if f.TSV != "" {
		if err := writeTSV(f.TSV, rows); err != nil {
			return err
		}
	}
	if f.Page != "" {
		if err := writePage(f.Page, rows, f); err != nil {
			return err
		}
	}
	return judged
}

func newStage(ctx context.Context, dir string) (*demopod.Stage, error) {
	stage, err := demopod.Build(ctx, dir, pod.Namespaces)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	stage.Images["between"] = self
	stage.Bootstrap = pushed(stage.Bootstrap)
	return stage, nil
}

// play plays the cells, some at a time, and returns their rows in the same order.
func play(ctx context.Context, stage *demopod.Stage, dir string, chosen []cell, f flags) []row {
	rows := make([]row, len(chosen)*max(f.Times, 1))
	places := make(chan struct{}, max(f.Parallel, 1))
	var all sync.WaitGroup
	for i := range rows {
		c := chosen[i%len(chosen)]
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			if ctx.Err() == nil {
				rows[i] = c.play(ctx, stage, dir, i)
				fmt.Fprintf(os.Stderr, "[%d of %d] %s\n", i+1, len(rows), rows[i])
			}
		})
	}
	all.Wait()
	return rows
}

func judge(rows []row) error {
	var again []string
	for _, r := range rows {
		if len(r.wrong) > 0 {
			again = append(again, fmt.Sprintf("  go run ./scripts/faults --cell %q", r.cell))
		}
	}
	if len(again) == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d cells are not as they must be; each again:\n%s", len(again), len(rows), strings.Join(again, "\n"))
}
