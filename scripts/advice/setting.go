package main

import (
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// asRecorded is the setting of the stops that advise reads; its row has that name too.
const asRecorded = "as recorded"

// recordedGrace is the grace period that they have: longer than any of them needs.
const recordedGrace = 40 * time.Second

// tries are the other settings, as --try and the agent's flags have them.
var tries = []string{ //nolint:gochecknoglobals // a table
	"quiet-max=1s", "accept-loss=1", "propagation=300ms announce-max=300ms", "drain-max=1s", "grace-period=12s", "stop-order=proxy,app",
}

// settings are all that held-out stops have.
func settings() []string {
	return slices.Concat([]string{asRecorded}, tries, []string{"sleep 5", "sleep 15"})
}

// shortGrace is the one that cuts many of the long stops.
const shortGrace = "grace-period=12s"

// task is a stop that is to be made.
type task struct {
	kind    string
	seed    uint64
	setting string // as --try has it
	use     string
}

// What a stop is for.
const (
	recorded = "recorded" // advise reads it
	unseen   = "unseen"   // it is held against what advise says of the others
	cut      = "cut"      // advise reads it; many of these the deadline cut
	graced   = "graced"   // it has the grace period that advise names
)

// plan is everything but what has an advised grace period. Seeds differ between all stops of a kind. The order is random: how busy the machine
// is changes, and must be the same chance for those that are read and those that are held against them.
func plan(f flags) (all []task) {
	for _, kind := range kinds {
		seed := f.From
		add := func(n int, setting, use string) {
			for range n {
				all = append(all, task{kind, seed, setting, use})
				seed++
			}
		}
		add(f.Recorded, asRecorded, recorded)
		for _, setting := range settings() {
			add(f.Unseen, setting, unseen)
		}
		if kind == "long" {
			add(f.Cut, shortGrace, cut)
		}
	}
	order := rand.New(rand.NewPCG(f.From, 0)) //nolint:gosec // reproducible on purpose
	order.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// manifest is the pod under a setting.
func (s *stage) manifest(setting string) (manifest *corev1.Pod, err error) {
	grace := recordedGrace
	if seconds, ok := strings.CutPrefix(setting, "sleep "); ok {
		n, _ := strconv.ParseInt(seconds, 10, 64) // of our own tables
		manifest, err = s.Sleeping(n)
	} else {
		var flags []string
		flags, grace = args(setting)
		manifest, err = s.WithAgent(flags...)
	}
	if err == nil {
		manifest.Spec.TerminationGracePeriodSeconds = new(int64(grace.Seconds()))
	}
	return manifest, err
}

// args are the agent's for a setting, and the grace period of its pod.
func args(setting string) (flags []string, grace time.Duration) {
	flags, grace = []string{"--grace-period=" + recordedGrace.String()}, recordedGrace
	if setting == asRecorded {
		return flags, grace
	}
	for part := range strings.FieldsSeq(setting) {
		flags = append(flags, "--"+part)
		if value, ok := strings.CutPrefix(part, "grace-period="); ok {
			grace, _ = time.ParseDuration(value) // of our own tables
		}
	}
	return flags, grace
}

// gracedTasks are stops under the grace periods that advise is sure of.
func gracedTasks(ctx context.Context, advise *adviser, stops []stop, f flags) (all []task, err error) {
	said, err := advise.of(ctx, of(stops, "", recorded), recordedGrace)
	if err != nil {
		return nil, err
	}
	seed := f.From + 100_000
	for _, g := range said.Grace {
		for range len(kinds) * f.Graced {
			if g.Sure {
				all = append(all, task{kinds[seed%uint64(len(kinds))], seed, graceOf(time.Duration(*g.Seconds) * time.Second), graced})
				seed++
			}
		}
	}
	return all, nil
}
