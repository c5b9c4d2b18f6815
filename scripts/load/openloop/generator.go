package openloop

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// Generator sends a plan's requests until it is stopped.
type Generator struct {
	plan     Plan
	dialer   *dialer
	pool     pool
	shared   *shared
	channels *channels
	tally    *tally
	began    time.Time
	took     time.Duration // of sending, once ended is closed
	ended    chan struct{} // closed when sending ends
	end      func()        // closes ended, once
	sending  sync.WaitGroup
	abort    context.CancelFunc
}

// Start begins to send. The caller must call Stop, also after ctx ended. Ending ctx abandons the requests under way;
// they are then neither served nor failed. It fails when the plan makes no sense, and says everything that is wrong.
func Start(ctx context.Context, plan Plan) (*Generator, error) {
	if err := plan.validate(); err != nil {
		return nil, fmt.Errorf("plan the load: %w", err)
	}
	d := &dialer{target: plan.Target, ownSource: plan.OwnSource, tls: plan.TLS, timeout: plan.Timeout}
	ch, err := newChannels(plan.Shared, d)
	if err != nil {
		return nil, fmt.Errorf("prepare grpc channels: %w", err)
	}
	ended := make(chan struct{})
	g := &Generator{
		plan: plan, dialer: d, shared: newShared(plan.Shared), channels: ch, tally: newTally(plan.Timeout),
		began: time.Now(), ended: ended,
	}
	g.end = sync.OnceFunc(func() {
		g.took = time.Since(g.began)
		close(ended)
	})
	ctx, g.abort = context.WithCancel(ctx)
	context.AfterFunc(ctx, g.end)
	for n := range plan.Slow {
		g.sending.Go(func() { g.slow(ctx, g.gaps(uint64(n))) })
	}
	if plan.Rate > 0 {
		g.sending.Go(func() { g.arrivals(ctx) })
	}
	return g, nil
}

// End ends sending; the requests under way go on.
func (g *Generator) End() { g.end() }

// Stop ends sending, waits for the requests under way (at most the plan's timeout) and returns what became of all.
func (g *Generator) Stop() Report {
	g.end()
	g.sending.Wait()
	g.abort()
	g.pool.close()
	g.shared.close()
	g.channels.close()
	return g.report()
}

// arrivals starts requests at the plan's rate, at random times, until sending ends.
func (g *Generator) arrivals(ctx context.Context) {
	rng := rand.New(rand.NewPCG(g.plan.Seed, 0))
	next := time.Now()
	for g.pause(time.Until(next)) {
		g.tally.late(time.Since(next))
		client, takes := pick(rng, g.plan)
		g.sending.Go(func() {
			g.tally.request(ctx, client, takes, func(ctx context.Context) exchange { return g.once(ctx, client, takes) })
		})
		next = next.Add(time.Duration(rng.ExpFloat64() / g.plan.Rate * float64(time.Second)))
	}
}

func (g *Generator) once(ctx context.Context, client Client, takes time.Duration) exchange {
	switch client {
	case Fresh:
		return g.fresh(ctx, takes)
	case Kept:
		return g.kept(ctx, takes)
	case HTTP2:
		return g.h2(ctx, takes)
	case GRPC:
		return g.channels.call(ctx, takes)
	default:
		return exchange{kind: "usage", detail: "no client " + string(client)}
	}
}

// pick draws a client and a duration. The order of draws is fixed, so equal seeds send the same requests.
func pick(rng *rand.Rand, plan Plan) (Client, time.Duration) {
	x, y := rng.Float64(), rng.Float64()
	client, takes := Fresh, plan.Work[len(plan.Work)-1].Takes
	for _, c := range []Client{Fresh, Kept, HTTP2, GRPC} {
		if share := plan.Clients[c]; share > 0 {
			client = c
			if x -= share; x < 0 {
				break
			}
		}
	}
	for _, w := range plan.Work {
		if y -= w.Share; y < 0 {
			takes = w.Takes
			break
		}
	}
	return client, takes
}

// gaps returns the times between the uses of one slow connection; the first is spread over the whole of SlowEvery.
func (g *Generator) gaps(n uint64) func(first bool) time.Duration {
	rng := rand.New(rand.NewPCG(g.plan.Seed, n+1))
	every := float64(g.plan.SlowEvery)
	return func(first bool) time.Duration {
		switch {
		case first:
			return time.Duration(rng.Float64() * every)
		case g.plan.SlowRandom:
			return time.Duration(rng.ExpFloat64() * every)
		default:
			return time.Duration((0.8 + 0.4*rng.Float64()) * every)
		}
	}
}

// pause waits and reports whether sending goes on.
func (g *Generator) pause(d time.Duration) bool {
	select {
	case <-g.ended:
		return false
	default:
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-g.ended:
		return false
	case <-timer.C:
		return true
	}
}

func (g *Generator) url(takes time.Duration) string {
	return "http://" + g.plan.Target + fmt.Sprintf(g.plan.Path, takes.Milliseconds())
}
