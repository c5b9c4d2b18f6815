package worker

import (
	"context"
	"log/slog"
	"time"

	"github.com/drain-agent/drain-agent/app/internal/recovery"
	"github.com/drain-agent/drain-agent/app/internal/store"
)

// Reconciler keeps the books honest: one replica at a time, at start-up and every Every.
type Reconciler struct {
	Store   *store.Store
	Metrics *recovery.Metrics
	Owner   string
	Log     *slog.Logger
	Every   time.Duration
}

const (
	leaderLease = 10 * time.Second
	leaderRenew = 3 * time.Second
	sweepLimit  = 10_000
)

// Run reconciles until ctx ends, then gives the lead to another replica.
func (r *Reconciler) Run(ctx context.Context) {
	var last time.Time
	for ctx.Err() == nil {
		leads, err := r.Store.Lead(ctx, "reconcile", r.Owner, leaderLease)
		if err != nil && ctx.Err() == nil {
			r.Log.WarnContext(ctx, "cannot take the reconciliation lease", "error", err)
		}
		if leads && time.Since(last) >= r.Every {
			last = time.Now()
			r.Once(ctx)
			r.sweep(ctx)
		}
		pause(ctx, min(leaderRenew, r.Every))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = r.Store.StepDown(ctx, "reconcile", r.Owner) // else the lease runs out by itself
}

// Once looks through the books, repairs, alerts, counts.
func (r *Reconciler) Once(ctx context.Context) {
	began, total := time.Now(), 0
	for _, result := range r.Store.Reconcile(ctx, false) {
		r.Metrics.Checked(result.Kind, result.Severity, result.New(), len(result.Findings), result.Err)
		total += result.New()
		if result.Err != nil {
			r.Log.ErrorContext(ctx, "consistency check failed", "check", result.Kind, "error", result.Err)
		}
		for _, f := range result.Findings {
			if f.Action != "known" {
				r.Log.ErrorContext(ctx, "inconsistency detected", "kind", f.Kind, "severity", f.Severity,
					"subject", f.Subject, "detail", f.Detail, "action", f.Action)
			}
		}
	}
	r.Log.InfoContext(ctx, "books reconciled", "findings", total, "took_ms", time.Since(began).Milliseconds())
}

func (r *Reconciler) sweep(ctx context.Context) {
	n, err := r.Store.SweepKeys(ctx, sweepLimit)
	if err == nil {
		err = r.Store.ForgetMarks(ctx)
	}
	if err != nil {
		r.Log.WarnContext(ctx, "cannot sweep", "error", err)
	} else if n > 0 {
		r.Log.InfoContext(ctx, "expired idempotency keys deleted", "keys", n)
	}
}
