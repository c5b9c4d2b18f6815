package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Lead takes or renews the named lease and reports whether owner holds it now. Times are the database's, so the clocks
// of the replicas do not matter.
func (s *Store) Lead(ctx context.Context, name, owner string, lease time.Duration) (leads bool, err error) {
	err = s.tx(ctx, func(ctx context.Context, t *tx) error {
		n, err := t.exec(ctx, `
			insert into leases (name, owner, fence, until_ms) values ($1, $2, 1, {now} + $3)
			on conflict (name) do update set owner = excluded.owner, fence = leases.fence + 1, until_ms = excluded.until_ms
			where leases.until_ms <= {now} or leases.owner = excluded.owner`, name, owner, lease.Milliseconds())
		leads = n == 1
		return err
	})
	if err != nil {
		return false, fmt.Errorf("take the lease %s: %w", name, err)
	}
	return leads, nil
}

// StepDown gives the named lease back.
func (s *Store) StepDown(ctx context.Context, name, owner string) error {
	return s.tx(ctx, func(ctx context.Context, t *tx) error {
		_, err := t.exec(ctx, `update leases set until_ms = 0 where name = $1 and owner = $2`, name, owner)
		return err
	})
}

// Mark writes that the replica is alive now; clean says that it is about to end by itself. Because it writes, it is also
// the honest check of whether the store works.
func (s *Store) Mark(ctx context.Context, replica string, clean bool) error {
	return s.tx(ctx, func(ctx context.Context, t *tx) error {
		_, err := t.exec(ctx, `insert into marks (replica, at_ms, clean) values ($1, {now}, $2)
			on conflict (replica) do update set at_ms = excluded.at_ms, clean = excluded.clean`, replica, clean)
		return err
	})
}

// Outage is the time during which no replica was alive.
type Outage struct {
	Since time.Duration // before now
	Crash bool          // the last replica did not say goodbye
}

// LastAlive tells how long ago any replica was last known to be alive. ok is false when there never was one.
func (s *Store) LastAlive(ctx context.Context) (o Outage, ok bool, err error) {
	var ms int64
	var clean bool
	err = s.row(ctx, `select {now} - at_ms, clean from marks order by at_ms desc limit 1`).Scan(&ms, &clean)
	if errors.Is(err, sql.ErrNoRows) {
		return Outage{}, false, nil
	}
	if err != nil {
		return Outage{}, false, s.classify(fmt.Errorf("read the last mark: %w", err))
	}
	return Outage{Since: max(0, time.Duration(ms)*time.Millisecond), Crash: !clean}, true, nil
}

// ForgetMarks deletes marks of replicas that have been silent for a day.
func (s *Store) ForgetMarks(ctx context.Context) error {
	return s.tx(ctx, func(ctx context.Context, t *tx) error {
		_, err := t.exec(ctx, `delete from marks where at_ms < {now} - 86400000 and at_ms < (select max(at_ms) from marks)`)
		return err
	})
}

// NewestPayment is how long ago the newest payment was made. ok is false when there is none. After a restore this is
// the recovery point.
func (s *Store) NewestPayment(ctx context.Context) (age time.Duration, ok bool, err error) {
	var ms sql.NullInt64
	err = s.row(ctx, `select {now} - max(created_ms) from payments`).Scan(&ms)
	return time.Duration(ms.Int64) * time.Millisecond, ms.Valid, s.classify(err)
}
