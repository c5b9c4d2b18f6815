package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/drain-agent/drain-agent/app/internal/inflight"
)

// step is one part of the stop. It gets share of the whole time, and less when the steps before it took longer.
type step struct {
	name  string
	share float64
	do    func(context.Context) error
}

// stopSteps is the order of a stop, outside in: first nobody new comes in, then everybody inside finishes, then the
// rooms are closed. Management is last, so that the stop can be watched to its end. Liveness stays well throughout.
func (a *app) stopSteps() []step {
	return []step{
		{"close the listener", 0.02, a.closeListener},
		{"announce", 0.02, a.announce},                                               // GOAWAY, Connection: close, 1001; batches checkpoint
		{"finish requests", 0.66, a.finishRequests},                                  // HTTP and gRPC
		{"finish connections", 0.10, a.await(inflight.WebSocket, inflight.Hijacked)}, // WebSockets said goodbye to above
		{"finish batches", 0.05, a.await(inflight.Batch)},                            // at most one item each
		{"end workers", 0.05, a.endWorkers},
		{"close the store", 0.05, a.closeStore}, // after the last sign of life
		{"flush traces", 0.04, a.traces.Shutdown},
		{"close management", 0.01, a.closeManagement},
	}
}

// stop goes through the steps under one deadline. A step that runs out of its share is cut off, the others still run.
func (a *app) stop(ctx context.Context) error {
	began := time.Now()
	a.metrics.Stopping()
	a.log.Info("stopping", "in_flight", a.count.Total(), "timeout_ms", a.cmd.StopTimeout.Milliseconds())
	ctx, cancel := context.WithTimeout(ctx, a.cmd.StopTimeout)
	defer cancel()
	var problems []error
	for _, s := range a.stopSteps() {
		start := time.Now()
		within, done := context.WithTimeout(ctx, time.Duration(s.share*float64(a.cmd.StopTimeout)))
		err := s.do(within)
		done()
		a.log.Info("stop step", "step", s.name, "took_ms", time.Since(start).Milliseconds(), "error", err)
		if err != nil {
			problems = append(problems, fmt.Errorf("stop: %s: %w", s.name, err))
		}
	}
	a.log.Info("stopped", "took_ms", time.Since(began).Milliseconds(), "cut_off", a.count.Total(), "clean", len(problems) == 0)
	return errors.Join(problems...)
}

func (a *app) closeListener(context.Context) error {
	if a.data == nil { // stopped before it served
		return nil
	}
	return a.data.CloseListener()
}

func (a *app) announce(context.Context) error {
	a.probes.FailReadiness("stopping")
	a.state.Stop()
	return nil
}

func (a *app) finishRequests(ctx context.Context) error {
	if a.data == nil {
		return nil
	}
	return a.data.Stop(ctx)
}

// await waits until no work of these kinds is left.
func (a *app) await(kinds ...inflight.Kind) func(context.Context) error {
	return func(ctx context.Context) error {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for a.count.Of(kinds...) > 0 {
			select {
			case <-ctx.Done():
				return fmt.Errorf("%d left: %w", a.count.Of(kinds...), ctx.Err())
			case <-tick.C:
			}
		}
		return nil
	}
}

func (a *app) endWorkers(ctx context.Context) error {
	if a.stopWorkers == nil {
		return nil
	}
	a.stopWorkers()
	ended := make(chan struct{})
	go func() {
		a.workers.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// closeStore writes the goodbye first: what follows is a planned absence and no crash.
func (a *app) closeStore(ctx context.Context) error {
	s := a.store.Load()
	if s == nil {
		return nil
	}
	var err error
	if a.state.IsStarted() {
		err = s.Goodbye(ctx, a.pod, a.metrics.StopTook())
	}
	return errors.Join(err, s.Close())
}

func (a *app) closeManagement(context.Context) error {
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond) // scrapers keep connections open
	defer cancel()
	_ = a.management.Stop(ctx)
	return nil
}
