package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
)

var (
	ledgerRun    = regexp.MustCompile(`(?m)^BenchmarkLedger/(memory|sqlite|postgresql)\S*\s(.*)$`)
	ledgerFigure = regexp.MustCompile(`([\d.]+) (MiB|us/add|ms/\w+)`)
)

// ledger is what 100,000 verdicts with their curves cost drain-controller's ledger, and whoever asks it.
func (b *bench) ledger(ctx context.Context) ([]figure, error) {
	figures := []figure{
		{Name: "100,000 verdicts with curves: resident, the test's program with it", Unit: "MiB"},
		{Name: "the same: to add one", Unit: "us/add"},
		{Name: "the same: 100 rows, the median of eleven", Unit: "ms/page"},
		{Name: "the same: 100 rows behind 60,000 others", Unit: "ms/deep"},
		{Name: "the same: one workload's bad ones", Unit: "ms/filter"},
		{Name: "the same: the sums of 100 rollouts", Unit: "ms/rollouts"},
		{Name: "the same: the sums of all", Unit: "ms/sums"},
		{Name: "the same: the page", Unit: "ms/html"},
		{Name: "the same: metrics of 500 workloads of 2,000", Unit: "ms/metrics"},
		{Name: "the same: to remove 10,000 that are too many", Unit: "ms/prune"},
	}
	for i := range figures {
		figures[i].Rows = []row{{Who: "memory"}, {Who: "sqlite"}, {Who: "postgresql"}}
	}
	for range min(b.runs, 3) {
		out, err := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkLedger$", "-benchtime", "1x", "-timeout", "30m", "./deploy/controller/internal/ledger").CombinedOutput()
		runs := ledgerRun.FindAllStringSubmatch(string(out), -1)
		if err != nil || len(runs) != 3 {
			return nil, fmt.Errorf("run the benchmark of the ledger: %w\n%s", err, out)
		}
		for _, run := range runs {
			for _, m := range ledgerFigure.FindAllStringSubmatch(run[2], -1) {
				n, err := strconv.ParseFloat(m[1], 64)
				if err != nil {
					return nil, err
				}
				for i := range figures {
					if figures[i].Unit == m[2] {
						who := &figures[i].Rows[map[string]int{"memory": 0, "sqlite": 1, "postgresql": 2}[run[1]]]
						who.Samples = append(who.Samples, n)
					}
				}
			}
		}
	}
	for i := range figures {
		figures[i].Unit = regexp.MustCompile(`/.*`).ReplaceAllString(figures[i].Unit, "")
	}
	return figures, nil
}
