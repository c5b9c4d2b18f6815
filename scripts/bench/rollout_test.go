package main

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/drain-agent/drain-agent/scripts/e2e"
)

// Two scripts stand for the real ones: what they say and how they end is all that counts.
func TestRolloutRunsTheTable(t *testing.T) {
	line := e2e.Row{Shape: e2e.Native, Pod: e2e.DrainAgent, FailedPer: []float64{0, 2}, Stops: []float64{15}}.Line()
	for _, row := range []struct {
		name, check, table string
		figures            int
		problem            string
		noNode             bool
	}{
		{"target met", "exit 0", "echo noise; echo '  x_test.go:1: " + line + "'", 2, "", false},
		{"target missed", "exit 0", "echo '" + line + "'; exit 1", 2, "exit status 1", false},
		{"nothing to read", "exit 0", "echo noise", 0, "no rows", false},
		{"no node", "echo 'needs root' >&2; echo 'needs go' >&2; exit 1", "echo '" + line + "'", 0, "no node: needs root; needs go", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			script(t, "scripts/cluster/cluster", `[ "$*" = check ] || exit 9; `+row.check)
			script(t, "scripts/e2e/run", `[ "$*" = --table ] || exit 9; `+row.table)
			figures, err := new(bench).rollout(t.Context())
			if len(figures) != row.figures || errors.Is(err, errNoNode) != row.noNode {
				t.Errorf("figures %v, want %d; error %v", figures, row.figures, err)
			}
			if (err != nil) != (row.problem != "") || err != nil && !strings.Contains(err.Error(), row.problem) {
				t.Errorf("error %v, want %q", err, row.problem)
			}
		})
	}
}

func script(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestRolloutFigures(t *testing.T) {
	got := rolloutFigures([]e2e.Row{
		{Shape: e2e.Native, Pod: e2e.Sleep15, FailedPer: []float64{16_000, 17_000}, Stops: []float64{24, 19}},
		{Shape: e2e.Native, Pod: e2e.DrainAgent, FailedPer: []float64{0, 1}, Stops: []float64{15, 16}},
		{Shape: e2e.Classic, Pod: e2e.Nothing, FailedPer: []float64{6000}, Stops: []float64{1}}, // and then the run broke off
	})
	want := []figure{
		{"rollout under load, native: failed requests", "per 100,000", "0", []row{{"drain-agent", []float64{0, 1}}, {"sleep 15", []float64{16_000, 17_000}}}},
		{"rollout under load, native: stop of a pod", "s", "< sleep 15", []row{{"drain-agent", []float64{15, 16}}, {"sleep 15", []float64{24, 19}}}},
		{"rollout under load, classic: failed requests", "per 100,000", "", []row{{"nothing", []float64{6000}}}},
		{"rollout under load, classic: stop of a pod", "s", "", []row{{"nothing", []float64{1}}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("figures\n%v, want\n%v", got, want)
	}
	if none := rolloutFigures(nil); len(none) > 0 {
		t.Errorf("figures %v of no rows", none)
	}
}
