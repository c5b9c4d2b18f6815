// Package worker holds what runs beside the requests: batches, and the reconciliation of the books.
package worker

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/drain-agent/drain-agent/app/internal/bank"
	"github.com/drain-agent/drain-agent/app/internal/inflight"
	"github.com/drain-agent/drain-agent/app/internal/store"
)

// Batches works through stored batches, one at a time. All fields are required, but ItemDelay.
type Batches struct {
	Store     *store.Store
	Bank      *bank.Client
	Inflight  *inflight.Counter
	Owner     string // unlike any other replica's
	Draining  func() <-chan struct{}
	Log       *slog.Logger
	Lease     time.Duration // another replica takes over when nothing was checkpointed for so long
	Poll      time.Duration // pause between looks for work
	ItemDelay time.Duration // pretend that every item takes this long
}

// Run works until ctx ends. While draining it takes nothing new, and what it has it gives back after the current item.
func (w *Batches) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if !closed(w.Draining()) && w.one(ctx) {
			continue
		}
		pause(ctx, w.Poll)
	}
}

// one works on one batch and reports whether there was any.
func (w *Batches) one(ctx context.Context) bool {
	b, err := w.Store.ClaimBatch(ctx, w.Owner, w.Lease)
	if err != nil {
		if !errors.Is(err, store.ErrNotFound) && ctx.Err() == nil {
			w.Log.WarnContext(ctx, "cannot look for batches", "error", err)
		}
		return false
	}
	defer w.Inflight.Begin(inflight.Batch)()
	w.Log.InfoContext(ctx, "batch taken", "batch", b.ID, "position", b.Position, "total", b.Total, "fence", b.Fence)
	for b.Status != "completed" {
		if closed(w.Draining()) || ctx.Err() != nil {
			w.release(ctx, b)
			return true
		}
		next, err := w.step(ctx, b)
		switch {
		case errors.Is(err, store.ErrFenced):
			w.Log.WarnContext(ctx, "batch lost to another replica", "batch", b.ID, "position", b.Position)
			return true
		case err != nil:
			w.Log.WarnContext(ctx, "batch item waits", "batch", b.ID, "position", b.Position, "error", err)
			pause(ctx, w.Poll)
		default:
			b = next
		}
	}
	w.Log.InfoContext(ctx, "batch completed", "batch", b.ID, "total", b.Total, "failed", b.Failed)
	return true
}

func (w *Batches) step(ctx context.Context, b store.Batch) (store.Batch, error) {
	key, item, err := w.Store.BatchItem(ctx, b)
	if err != nil {
		return b, err
	}
	pause(ctx, w.ItemDelay)
	if err := w.Bank.Authorise(ctx, "house/"+key); err != nil {
		return b, err
	}
	return w.Store.StepBatch(ctx, b, key, item, w.Lease)
}

// release runs even when ctx has ended: the sooner it is known that the batch is free, the sooner it goes on elsewhere.
func (w *Batches) release(ctx context.Context, b store.Batch) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := w.Store.ReleaseBatch(ctx, b); err != nil {
		w.Log.WarnContext(ctx, "cannot release the batch, others wait for its lease to run out", "batch", b.ID, "error", err)
		return
	}
	w.Log.InfoContext(ctx, "batch checkpointed and released", "batch", b.ID, "position", b.Position, "total", b.Total)
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
