package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
)

// Metrics stand in the order of their names.
var admissionFigures = regexp.MustCompile(`(?m)^BenchmarkPods/(\w+?)(?:-\d+)?\s.*?([\d.]+) MiB\s+([\d.]+) ms/p50\s+([\d.]+) ms/p99`)

// admission is what drain-controller's webhook costs whoever makes a pod, at a real API server that has 2,000 with an agent.
func (b *bench) admission(ctx context.Context) ([]figure, error) {
	rows := func() []row {
		return []row{{Who: "a pod made with it"}, {Who: "without it"}, {Who: "its answer alone"}}
	}
	latency := figure{Name: "50 pods a second, drain-controller's webhook: the slowest of 100 pods", Unit: "ms", Goal: "≤ 20 for an answer", Rows: rows()}
	median := figure{Name: "the same pods: the median", Unit: "ms", Rows: rows()}
	memory := figure{Name: "drain-controller with 2,000 pods: most resident", Unit: "MiB", Goal: "≤ 64", Rows: []row{{Who: "drain-controller"}}}
	for range min(b.runs, 3) {
		out, err := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkPods$", "-benchtime", "1500x", "-timeout", "30m", "./deploy/controller").CombinedOutput()
		if bytes.Contains(out, []byte("--- SKIP")) {
			return nil, fmt.Errorf("no kube-apiserver to ask: %w", errNoNode)
		}
		found := admissionFigures.FindAllStringSubmatch(string(out), -1)
		if err != nil || len(found) != 3 {
			return nil, fmt.Errorf("run the benchmark of the webhook: %w\n%s", err, out)
		}
		for i, m := range found {
			var numbers [3]float64
			for n := range numbers {
				if numbers[n], err = strconv.ParseFloat(m[2+n], 64); err != nil {
					return nil, err
				}
			}
			median.Rows[i].Samples = append(median.Rows[i].Samples, numbers[1])
			latency.Rows[i].Samples = append(latency.Rows[i].Samples, numbers[2])
			if m[1] == "with" {
				memory.Rows[0].Samples = append(memory.Rows[0].Samples, numbers[0])
			}
		}
	}
	return []figure{latency, median, memory}, nil
}
