package main

import (
	"math/rand/v2"
	"time"

	"github.com/drain-agent/drain-agent/scripts/demo/balancer"
	"github.com/drain-agent/drain-agent/scripts/load/openloop"
)

// kinds are the kinds of work. Within one everything else is drawn from the seed of a stop.
var kinds = []string{"mixed", "pool", "long"} //nolint:gochecknoglobals // a table

// work is what clients do to a pod, and how soon the balancer before it knows that it stops.
type work struct {
	plan openloop.Plan
	lag  balancer.Lag
	warm time.Duration // from the first request to the deletion
}

// draw draws the work of a stop. Stops of one kind are draws from one distribution, whichever setting they are under: that is what advise
// takes for granted.
func draw(kind string, seed uint64) work {
	r := rand.New(rand.NewPCG(seed, uint64(len(kind)))) //nolint:gosec // reproducible on purpose
	between := func(from, to float64) float64 { return from + (to-from)*r.Float64() }
	seconds := func(from, to float64) time.Duration { return time.Duration(between(from, to) * float64(time.Second)) }
	lag := seconds(0.6, 1.2)
	w := work{plan: openloop.DefaultPlan(""), lag: balancer.Lag{Min: lag, Max: lag}, warm: seconds(2.5, 4)}
	w.plan.Seed, w.plan.Slow, w.plan.Shared, w.plan.OwnSource = seed, 0, 2, true
	const quick = 20 * time.Millisecond
	switch kind {
	case "mixed": // all kinds of client, short requests and a few of up to 2 s
		w.plan.Rate, w.plan.Slow, w.plan.SlowEvery = between(5, 25), r.IntN(8), seconds(1, 4)
		w.plan.Work = []openloop.Work{{Share: 0.9, Takes: quick}, {Share: 0.1, Takes: seconds(0.2, 2)}}
	case "pool": // kept-alive connections that are each used now and then
		w.plan.Rate, w.plan.Slow, w.plan.SlowEvery, w.plan.SlowRandom = between(1, 4), 5+r.IntN(30), seconds(1, 5), r.IntN(2) == 0
		w.plan.Clients = map[openloop.Client]float64{openloop.Fresh: 0.5, openloop.Kept: 0.5}
		w.plan.Work = []openloop.Work{{Share: 1, Takes: quick}}
	case "long": // few requests, of up to 7 s
		w.plan.Rate = between(1, 4)
		w.plan.Work = []openloop.Work{{Share: 0.5, Takes: quick}, {Share: 0.4, Takes: seconds(1, 3)}, {Share: 0.1, Takes: seconds(3, 7)}}
	}
	return w
}
