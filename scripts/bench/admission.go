package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

var admissionLine = regexp.MustCompile(`(?m)^BenchmarkPods/(\w+?)(?:-\d+)?\s(.*)$`)

// admissionFigures are those of each part of the benchmark, by their units.
func admissionFigures(printed string) map[string]map[string]float64 {
	all := map[string]map[string]float64{}
	for _, line := range admissionLine.FindAllStringSubmatch(printed, -1) {
		all[line[1]] = map[string]float64{}
		for _, pair := range strings.Split(line[2], "\t")[1:] {
			number, unit, _ := strings.Cut(strings.TrimSpace(pair), " ")
			if n, err := strconv.ParseFloat(number, 64); err == nil && unit != "" {
				all[line[1]][unit] = n
			}
		}
	}
	return all
}

// admission is what drain-controller's webhook costs whoever makes a pod, at a real API server that has 2,000 with an agent.
func (b *bench) admission(ctx context.Context) ([]figure, error) {
	parts := []string{"with", "without", "answer"}
	rows := func() []row {
		return []row{{Who: "a pod made with it"}, {Who: "without it"}, {Who: "its answer alone"}}
	}
	latency := figure{Name: "50 pods a second, drain-controller's webhook: the slowest of 100 pods", Unit: "ms", Goal: "≤ 20 for an answer", Rows: rows()}
	median := figure{Name: "the same pods: the median", Unit: "ms", Rows: rows()}
	kinds := []string{"MiB/working-set", "MiB/anonymous", "MiB/file"}
	memory := figure{
		Name: "the same, drain-controller in a cgroup of 64 MiB with 2,000 pods", Unit: "MiB", Goal: "≤ 64, nothing killed",
		Rows: []row{{Who: "working set, the kernel's part too"}, {Who: "anonymous"}, {Who: "of its program"}},
	}
	for range min(b.runs, 3) {
		out, err := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkPods$", "-benchtime", "1500x", "-timeout", "30m", "./deploy/controller").CombinedOutput()
		if bytes.Contains(out, []byte("--- SKIP")) {
			return nil, fmt.Errorf("no kube-apiserver to ask, or no cgroup to be had: %w", errNoNode)
		}
		found := admissionFigures(string(out))
		if err != nil || len(found) != len(parts) {
			return nil, fmt.Errorf("run the benchmark of the webhook: %w\n%s", err, out)
		}
		for i, part := range parts {
			median.Rows[i].Samples = append(median.Rows[i].Samples, found[part]["ms/p50"])
			latency.Rows[i].Samples = append(latency.Rows[i].Samples, found[part]["ms/p99"])
		}
		for i, kind := range kinds {
			memory.Rows[i].Samples = append(memory.Rows[i].Samples, found["answer"][kind])
		}
	}
	return []figure{latency, median, memory}, nil
}
