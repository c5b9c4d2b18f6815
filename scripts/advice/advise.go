package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// adviser is the program that users have.
type adviser struct{ program, dir string }

func newAdviser(ctx context.Context, dir string) (*adviser, error) {
	program := filepath.Join(dir, "drainctl")
	if said, err := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/drain-agent/drain-agent/deploy/drainctl").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build drainctl: %w\n%s", err, said)
	}
	return &adviser{program, dir}, nil
}

// advised is what is read of advise's JSON of one workload.
type advised struct {
	Stops   int
	Cut     int     `json:"cut_short"`
	Grace   []grace `json:"grace"`
	Replays struct {
		Ready    int
		Unlike   int `json:"unlike_recorded"`
		Censored int `json:"cut_by_deadline"`
	}
	WhatIf []whatIf `json:"what_if"`
	Sleep  []struct {
		whatIf
		Seconds int64
	}
}

// rows are what advise says of other settings, and of sleeps instead of an agent.
func (a advised) rows() []whatIf {
	rows := slices.Clone(a.WhatIf)
	for _, s := range a.Sleep {
		s.Settings = fmt.Sprint("sleep ", s.Seconds)
		rows = append(rows, s.whatIf)
	}
	return rows
}

type grace struct {
	Share      float64
	Seconds    *int64
	Sure       bool
	Confidence float64
	AtLeast    int64 `json:"at_least_s"`
}

type whatIf struct {
	Settings   string
	Open       int `json:"not_over"`
	Confidence float64
	Took       limits    `json:"total_ms"`
	Lost       limits    `json:"requests_lost"`
	Per100     *[2]int64 `json:"requests_lost_per_100_stops"`
}

// limits are the bounds that advise prints; no upper one where nobody can say.
type limits struct {
	Low  int64
	High *int64
}

func (l limits) hold(n int64) bool { return n >= l.Low && (l.High == nil || n <= *l.High) }

func (l limits) String() string { return l.of(1, 0) }

// of writes the bounds in another unit.
func (l limits) of(unit float64, places int) string {
	high := "?"
	if l.High != nil {
		high = fmt.Sprintf("%.*f", places, float64(*l.High)/unit)
	}
	return fmt.Sprintf("%.*f to %s", places, float64(l.Low)/unit, high)
}

// shares of stops that a grace period is asked for.
const shares = "--shares=0.9,0.99,0.999"

// sleeps instead of the agent that are asked for too, in seconds.
const sleeps = "--sleeps=5,15"

// ask lets drainctl advise read these stops, and only what their agents logged of them.
func (a *adviser) ask(ctx context.Context, stops []stop, output string, more ...string) ([]byte, error) {
	logs, err := os.MkdirTemp(a.dir, "logs-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for logs: %w", err)
	}
	defer os.RemoveAll(logs)
	for _, s := range stops {
		name := filepath.Join(logs, fmt.Sprintf("%s-%d.jsonl", s.Kind, s.Seed))
		if err := os.WriteFile(name, append([]byte(s.Verdict), '\n'), 0o600); err != nil {
			return nil, fmt.Errorf("write a log for advise: %w", err)
		}
	}
	args := append([]string{"advise", "--from=" + logs, "--output=" + output, shares, sleeps}, more...)
	said, err := exec.CommandContext(ctx, a.program, args...).Output()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil, fmt.Errorf("drainctl %s: %w\n%s", strings.Join(args, " "), err, failed.Stderr)
	}
	return said, err
}

// of asks about one workload whose stops had this grace period, under these settings.
func (a *adviser) of(ctx context.Context, stops []stop, had time.Duration, tries ...string) (one advised, err error) {
	more := []string{"--recorded=grace-period=" + had.String()}
	for _, try := range tries {
		more = append(more, "--try="+try)
	}
	said, err := a.ask(ctx, stops, "json", more...)
	if err != nil {
		return one, err
	}
	var all struct{ Workloads []advised }
	if err := json.Unmarshal(said, &all); err != nil || len(all.Workloads) != 1 {
		return one, fmt.Errorf("drainctl advise said of %d stops, %w:\n%s", len(stops), err, said)
	}
	return all.Workloads[0], nil
}
