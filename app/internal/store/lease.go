package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Lead takes or renews the named lease and reports whether owner holds it now. Times are the database's, so the clocks
// of the replicas do not matter. A lease with more than twice its length to go was written before that clock was put
// back; it is nobody's, or its holder's death would be seen only when the clock has caught up.
func (s *Store) Lead(ctx context.Context, name, owner string, lease time.Duration) (leads bool, err error) {
	err = s.tx(ctx, func(ctx context.Context, t *tx) error {
		n, err := t.exec(ctx, `
			insert into leases (name, owner, fence, until_ms, lease_ms) values ($1, $2, 1, {now} + $3, $3)
			on conflict (name) do update set owner = excluded.owner, fence = leases.fence + 1, until_ms = excluded.until_ms, lease_ms = excluded.lease_ms
			where not (leases.until_ms > {now} and leases.until_ms <= {now} + 2 * leases.lease_ms) or leases.owner = excluded.owner`,
			name, owner, lease.Milliseconds())
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

// Mark writes that the replica is alive now. Because it writes, it is also the honest check of whether the store works.
// It returns how old the oldest checkpoint of an unfinished batch is, zero when there is no such batch.
func (s *Store) Mark(ctx context.Context, replica string) (checkpoint time.Duration, err error) {
	return s.mark(ctx, replica, false, 0)
}

// Goodbye writes that the replica ends by itself now, and how long its stop took so far.
func (s *Store) Goodbye(ctx context.Context, replica string, stopping time.Duration) error {
	_, err := s.mark(ctx, replica, true, stopping)
	return err
}

func (s *Store) mark(ctx context.Context, replica string, clean bool, stopping time.Duration) (checkpoint time.Duration, err error) {
	var ms int64
	err = s.urgent(ctx, func(ctx context.Context, t *tx) error {
		_, err := t.exec(ctx, `insert into marks (replica, at_ms, clean, stop_ms) values ($1, {now}, $2, $3)
			on conflict (replica) do update set at_ms = excluded.at_ms, clean = excluded.clean,
				stop_ms = case when excluded.clean then excluded.stop_ms else marks.stop_ms end`, replica, clean, stopping.Milliseconds())
		if err != nil {
			return err
		}
		return t.row(ctx, `select coalesce(max({now} - updated_ms), 0) from batches where status <> 'completed'`).Scan(&ms)
	})
	return max(0, time.Duration(ms)*time.Millisecond), err
}

// Outage is a time during which no replica was alive.
type Outage struct {
	Since time.Duration // how long ago it began: the last mark of any replica
	Crash bool          // that replica did not say goodbye
}

// LastAlive tells since when no replica has been alive, as a starting replica sees it. ok is false when there never was
// one, or when another one gave a sign of life within fresh: then the service was never away.
func (s *Store) LastAlive(ctx context.Context, replica string, fresh time.Duration) (o Outage, ok bool, err error) {
	var ms int64
	var clean bool
	var others int
	err = s.row(ctx, `select {now} - at_ms, clean,
			(select count(*) from marks where replica <> $1 and not clean and at_ms > {now} - $2 and at_ms <= {now} + $2)
		from marks order by at_ms > {now} + $2, at_ms desc limit 1`, replica, fresh.Milliseconds()).Scan(&ms, &clean, &others)
	if errors.Is(err, sql.ErrNoRows) || others > 0 {
		return Outage{}, false, nil
	}
	if err != nil {
		return Outage{}, false, fmt.Errorf("read the last mark: %w", err)
	}
	return Outage{Since: max(0, time.Duration(ms)*time.Millisecond), Crash: !clean}, true, nil
}

// LastStop is how long the most recent orderly stop of any replica took, zero when there was none.
func (s *Store) LastStop(ctx context.Context) (time.Duration, error) {
	var ms int64
	err := s.row(ctx, `select stop_ms from marks where stop_ms > 0 order by at_ms desc limit 1`).Scan(&ms)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return time.Duration(ms) * time.Millisecond, err
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
	return time.Duration(ms.Int64) * time.Millisecond, ms.Valid, err
}
