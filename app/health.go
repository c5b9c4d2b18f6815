package main

import (
	"context"
	"errors"
	"time"

	"github.com/drain-agent/drain-agent/probes"
)

// checks says what makes this replica unhealthy.
//
// Liveness has no check: nothing we can look at is cured by a restart, and it does not fail while stopping.
// The bank is everybody's: when it is down, replays and reads still work and payments fail fast with a retryable code,
// which is better than no endpoint at all. It is shown and fails nothing.
// A SQLite file is this replica's own, so it counts. A PostgreSQL is everybody's: it counts until it has worked once
// (a rollout that cannot reach it must not go on) and is shown after that.
func (a *app) checks() probes.Config {
	policy := probes.Required
	if a.cmd.shared() {
		policy = probes.Shared
	}
	return probes.Config{
		Startup: []probes.Check{{Name: "initialised", Run: a.initialised}},
		Readiness: []probes.Check{
			{Name: "store", Run: func(context.Context) error { return a.lastStoreError() }, Policy: policy},
			{Name: "dependency", Run: a.dependency},
			{Name: "bank", Run: a.bank.Check, Policy: probes.Degraded},
		},
		Synthetic: []probes.Check{
			{Name: "payment", Run: a.synthetic, Timeout: 5 * time.Second},
			{Name: "dependency", Run: a.dependency},
		},
	}
}

func (a *app) initialised(context.Context) error {
	if !a.state.IsStarted() {
		return errors.Join(errors.New("not initialised yet"), a.lastStoreError())
	}
	return nil
}

func (a *app) lastStoreError() error {
	if err := a.storeError.Load(); err != nil {
		return *err
	}
	return nil
}

// dependency is the simulated one of /toggle-health: something only this replica has lost.
func (a *app) dependency(context.Context) error {
	if a.broken.Load() {
		return errors.New("toggled off")
	}
	return nil
}

// synthetic goes the whole way of a payment, the bank included.
func (a *app) synthetic(ctx context.Context) error {
	s := a.store.Load()
	if s == nil {
		return errors.New("the store is not open")
	}
	return errors.Join(a.bank.Authorise(ctx, "synthetic"), s.Synthetic(ctx))
}
