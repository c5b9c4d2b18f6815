package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Batch is a list of transfers and how far they are.
type Batch struct {
	ID, Status              string // "pending", "running", "completed"
	Total, Position, Failed int64
	Owner                   string // holder of the lease, "" when nobody works on it
	Fence                   int64  // grows with every change of holder
	UpdatedMs               int64
}

const batchColumns = `id, status, total, position, failed, case when lease_until_ms > {now} then owner else '' end, fence, updated_ms`

func scanBatch(row scanner) (b Batch, err error) {
	err = row.Scan(&b.ID, &b.Status, &b.Total, &b.Position, &b.Failed, &b.Owner, &b.Fence, &b.UpdatedMs)
	if errors.Is(err, sql.ErrNoRows) {
		return b, ErrNotFound
	}
	return b, err
}

// StartBatch stores a batch, once per key.
func (s *Store) StartBatch(ctx context.Context, key string, items []Transfer) (b Batch, err error) {
	err = s.tx(ctx, func(ctx context.Context, t *tx) error {
		parts := make([]any, 0, len(items)+1)
		parts = append(parts, "batch")
		for _, item := range items {
			parts = append(parts, item.fingerprint())
		}
		c, err := t.claim(ctx, key, fingerprint(parts...))
		if err != nil {
			return err
		}
		if !c.again {
			c.ref = "batch_" + rand.Text()
			if err := t.insertBatch(ctx, c.ref, items); err != nil {
				return fmt.Errorf("store the batch: %w", err)
			}
			if err := t.settle(ctx, key, c.ref, nil); err != nil {
				return err
			}
		}
		b, err = scanBatch(t.row(ctx, `select `+batchColumns+` from batches where id = $1`, c.ref))
		return err
	})
	return b, err
}

func (t *tx) insertBatch(ctx context.Context, id string, items []Transfer) error {
	if _, err := t.exec(ctx, `insert into batches (id, status, total, created_ms, updated_ms) values ($1, 'pending', $2, {now}, {now})`,
		id, len(items)); err != nil {
		return err
	}
	for i, item := range items {
		if _, err := t.exec(ctx, `insert into batch_items (batch_id, position, from_account, to_account, amount, currency) values ($1, $2, $3, $4, $5, $6)`,
			id, i, item.From, item.To, item.Amount, item.Currency); err != nil {
			return err
		}
	}
	return nil
}

// Batch reads one batch, or fails with ErrNotFound.
func (s *Store) Batch(ctx context.Context, id string) (Batch, error) {
	return scanBatch(s.row(ctx, `select `+batchColumns+` from batches where id = $1`, id))
}

// freeBatch: nobody has it, see Lead for the leases that a clock put back has left.
const freeBatch = `status <> 'completed' and not (lease_until_ms > {now} and lease_until_ms <= {now} + 2 * lease_ms)`

// ClaimBatch leases the oldest unfinished batch that nobody works on. ErrNotFound: there is none.
func (s *Store) ClaimBatch(ctx context.Context, owner string, lease time.Duration) (b Batch, err error) {
	err = s.tx(ctx, func(ctx context.Context, t *tx) (err error) {
		b, err = scanBatch(t.row(ctx, `
			update batches set status = 'running', owner = $1, fence = fence + 1, lease_until_ms = {now} + $2, lease_ms = $2
			where id = (select id from batches where `+freeBatch+` order by created_ms, id limit 1) and `+freeBatch+`
			returning `+batchColumns, owner, lease.Milliseconds()))
		return err
	})
	return b, err
}

// BatchItem reads the transfer at a position and the house's name for it. No key protects it: see StepBatch.
func (s *Store) BatchItem(ctx context.Context, b Batch) (key string, item Transfer, err error) {
	err = s.row(ctx, `select from_account, to_account, amount, currency from batch_items where batch_id = $1 and position = $2`,
		b.ID, b.Position).Scan(&item.From, &item.To, &item.Amount, &item.Currency)
	if err != nil {
		return "", Transfer{}, fmt.Errorf("read item %d of %s: %w", b.Position, b.ID, err)
	}
	return fmt.Sprintf("%s/%d", b.ID, b.Position), item, nil
}

// StepBatch makes the payment at b.Position, moves the checkpoint past it and renews the lease, all in one transaction:
// a killed worker repeats nothing here. ErrFenced: another replica took the batch over, this one must let go of it.
func (s *Store) StepBatch(ctx context.Context, b Batch, key string, item Transfer, lease time.Duration) (next Batch, err error) {
	err = s.tx(ctx, func(ctx context.Context, t *tx) error {
		var position int64
		err := t.row(ctx, `select position from batches where id = $1 and fence = $2 and status = 'running' {lock}`, b.ID, b.Fence).Scan(&position)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrFenced
		}
		if err != nil {
			return fmt.Errorf("read the checkpoint: %w", err)
		}
		if position != b.Position { // done, the answer to its commit was lost
			next, err = scanBatch(t.row(ctx, `select `+batchColumns+` from batches where id = $1`, b.ID))
			return err
		}
		_, no, err := t.transfer(ctx, key, true, item)
		if err != nil {
			return err
		}
		code, failed := "ok", 0
		if no != nil {
			code, failed = no.Code, 1
		}
		if _, err := t.exec(ctx, `update batch_items set code = $3 where batch_id = $1 and position = $2`, b.ID, position, code); err != nil {
			return fmt.Errorf("record the item: %w", err)
		}
		next, err = scanBatch(t.row(ctx, `
			update batches set position = position + 1, failed = failed + $2, updated_ms = {now}, lease_until_ms = {now} + $3, lease_ms = $3,
				status = case when position + 1 >= total then 'completed' else status end
			where id = $1 returning `+batchColumns, b.ID, failed, lease.Milliseconds()))
		return err
	})
	return next, err
}

// ReleaseBatch gives the lease back so that another replica goes on at once. It does nothing when it was lost.
func (s *Store) ReleaseBatch(ctx context.Context, b Batch) error {
	return s.tx(ctx, func(ctx context.Context, t *tx) error {
		_, err := t.exec(ctx, `update batches set lease_until_ms = 0, owner = '' where id = $1 and fence = $2`, b.ID, b.Fence)
		return err
	})
}
