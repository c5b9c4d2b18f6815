package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
)

// claimed is what is known of an idempotency key after the attempt to claim it.
type claimed struct {
	again bool          // the call was made before: ref or refusal is its answer
	ref   string        // id of what it made
	no    *RefusalError // or why it was refused
}

// claim takes the key for the rest of the transaction. A concurrent claim of the same key waits until this
// transaction ends: it then finds the answer, or the key free again. Nothing is ever seen half done.
// Keys that have expired are free.
func (t *tx) claim(ctx context.Context, key, fingerprint string) (claimed, error) {
	n, err := t.exec(ctx, `
		insert into idempotency_keys (key, fingerprint, created_ms, expires_ms)
		values ($1, $2, {now}, {now} + $3)
		on conflict (key) do update set fingerprint = excluded.fingerprint, created_ms = excluded.created_ms,
			expires_ms = excluded.expires_ms, settled_ms = null, ref = '', code = '', message = ''
		where idempotency_keys.expires_ms <= {now}`, key, fingerprint, t.s.keyTTL.Milliseconds())
	if err != nil {
		return claimed{}, fmt.Errorf("claim the idempotency key: %w", err)
	}
	if n == 1 {
		return claimed{}, nil
	}
	return answerOf(t.row(ctx, keyQuery, key), fingerprint)
}

// settle stores the answer under the key: a reference to what was made, or the refusal.
func (t *tx) settle(ctx context.Context, key, ref string, no *RefusalError) error {
	if no == nil {
		no = &RefusalError{}
	}
	_, err := t.exec(ctx, `update idempotency_keys set settled_ms = {now}, ref = $2, code = $3, message = $4 where key = $1`,
		key, ref, no.Code, no.Message)
	if err != nil {
		return fmt.Errorf("store the answer: %w", err)
	}
	return nil
}

const keyQuery = `select fingerprint, settled_ms is not null, ref, code, message from idempotency_keys
	where key = $1 and expires_ms > {now}`

// answerOf fails with sql.ErrNoRows when the key is not known, ErrKeyReused or ErrBusy.
func answerOf(row scanner, fingerprint string) (claimed, error) {
	var print, code, message string
	var settled bool
	c := claimed{again: true}
	if err := row.Scan(&print, &settled, &c.ref, &code, &message); err != nil {
		return claimed{}, fmt.Errorf("read the idempotency key: %w", err)
	}
	if print != fingerprint {
		return claimed{}, ErrKeyReused
	}
	if !settled { // left by damage or by a version of this program that claimed separately
		return claimed{}, fmt.Errorf("%w: a call with this key is running", ErrBusy)
	}
	if code != "" {
		c.no = &RefusalError{Code: code, Message: message}
	}
	return c, nil
}

// lookup reads the key outside any transaction; again is false when it is not known.
func (s *Store) lookup(ctx context.Context, key, fingerprint string) (claimed, error) {
	c, err := answerOf(s.row(ctx, keyQuery, key), fingerprint)
	if errors.Is(err, sql.ErrNoRows) {
		return claimed{}, nil
	}
	return c, err
}

// SweepKeys deletes at most limit expired keys and says how many it was.
func (s *Store) SweepKeys(ctx context.Context, limit int) (n int64, err error) {
	err = s.tx(ctx, func(ctx context.Context, t *tx) (err error) {
		t.patience = txTimeout
		n, err = t.exec(ctx, `delete from idempotency_keys where key in (
			select key from idempotency_keys where expires_ms <= {now} and settled_ms is not null
			order by expires_ms limit $1)`, limit)
		return err
	})
	return n, err
}

func fingerprint(parts ...any) string {
	h := sha256.New()
	for _, p := range parts {
		_, _ = fmt.Fprintf(h, "%q\n", fmt.Sprint(p))
	}
	return hex.EncodeToString(h.Sum(nil))
}
