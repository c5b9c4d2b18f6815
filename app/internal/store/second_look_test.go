package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/drain-agent/drain-agent/scripts/pgtest"
)

func (s *Store) must(t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := s.db.ExecContext(t.Context(), s.dialect.rewrite(query), args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func work(t *testing.T, s *Store, b Batch) Batch {
	t.Helper()
	for b.Status == "running" {
		key, item, err := s.BatchItem(t.Context(), b)
		if err == nil {
			b, err = s.StepBatch(t.Context(), b, key, item, time.Hour)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// A caller may take any key, also one that looks like the house's own name for a payment.
func testNamespaces(t *testing.T, dsn string) {
	s := open(t, dsn)
	batch, err := s.StartBatch(t.Context(), "k", []Transfer{usd(a, b, 1), usd(a, b, 2), usd(a, b, 3)})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{batch.ID + "/1", "opening/acct-0004"} {
		if _, err := s.Pay(t.Context(), key, usd(a, b, 100)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Seed(t.Context(), 8, 1000, 2, 10); err != nil {
		t.Errorf("more accounts: %v", err)
	}
	if batch, err = s.ClaimBatch(t.Context(), "w", time.Hour); err != nil {
		t.Fatal(err)
	}
	if done := work(t, s, batch); done.Failed != 0 || balance(t, s, a) != 1000-200-6 || balance(t, s, "acct-0004") != 1000 {
		t.Errorf("%+v, balances %d and %d", done, balance(t, s, a), balance(t, s, "acct-0004"))
	}
	if ids, err := s.PaymentsOf(t.Context(), batch.ID+"/1"); len(ids) != 1 || err != nil {
		t.Errorf("under the caller's key: %v %v, want the caller's payment", ids, err)
	}
	sound(t, s)
}

func testNoMoneyFromNothing(t *testing.T, dsn string) {
	s := open(t, dsn)
	refused := func(code string, transfer Transfer) {
		t.Helper()
		_, err := s.Pay(t.Context(), code+transfer.From, transfer)
		if no, ok := errors.AsType[*RefusalError](err); !ok || no.Code != code {
			t.Errorf("%v: %v, want %s", transfer, err, code)
		}
	}
	refused("house_account", usd(equity, a, 1))
	refused("house_account", usd(a, equity, 1))
	s.must(t, `update accounts set balance = $1 where id = 'acct-0001'`, int64(math.MaxInt64-5))
	refused("balance_limit", usd(a, b, 10))
	if got := balance(t, s, b); got != math.MaxInt64-5 || balance(t, s, a) != 1000 {
		t.Errorf("balance %d", got)
	}
	// Whoever posts, nothing gets past the limit.
	err := s.tx(t.Context(), func(ctx context.Context, x *tx) error { return x.post(ctx, "p", "credit", b, 10) })
	if err == nil {
		t.Error("posted beyond the limit")
	}
}

// The database's clock was an hour ahead when the leases were written; their holders are dead.
func testClockPutRight(t *testing.T, dsn string) {
	s := open(t, dsn)
	if _, err := s.StartBatch(t.Context(), "k", []Transfer{usd(a, b, 1)}); err != nil {
		t.Fatal(err)
	}
	first, err := s.ClaimBatch(t.Context(), "dead", 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if leads, err := s.Lead(t.Context(), "l", "dead", 10*time.Second); !leads || err != nil {
		t.Fatal(leads, err)
	}
	another := func() (batch, lead error) {
		_, batch = s.ClaimBatch(t.Context(), "alive", 5*time.Second) // its own lease is shorter, and says nothing of others'
		leads, err := s.Lead(t.Context(), "l", "alive", 5*time.Second)
		if err == nil && !leads {
			err = ErrNotFound
		}
		return batch, err
	}
	ahead := func(ms int64) {
		s.must(t, `update batches set lease_until_ms = lease_until_ms + $1`, ms)
		s.must(t, `update leases set until_ms = until_ms + $1`, ms)
	}
	ahead(5000) // a clock that is set by less than a lease takes it from nobody
	if batch, lead := another(); !errors.Is(batch, ErrNotFound) || !errors.Is(lead, ErrNotFound) {
		t.Fatalf("taken from a living holder: %v %v", batch, lead)
	}
	ahead(3_600_000)
	if batch, lead := another(); batch != nil || lead != nil {
		t.Errorf("nobody goes on: batch %v, lead %v", batch, lead)
	}
	key, item, err := s.BatchItem(t.Context(), first)
	if err == nil {
		_, err = s.StepBatch(t.Context(), first, key, item, time.Hour)
	}
	if !errors.Is(err, ErrFenced) {
		t.Errorf("the first holder lives after all: %v, want ErrFenced", err)
	}
}

// The life of a key counts from its claim: a payment may wait after that, and be used again just after the key's end.
func testDoubles(t *testing.T, dsn string) {
	s := open(t, dsn)
	const day = 24 * 3600 * 1000
	doubles := func() (subjects []string) {
		for _, r := range s.Reconcile(t.Context(), true) {
			if r.Kind == "duplicate_payment" {
				for _, f := range r.Findings {
					subjects = append(subjects, f.Subject)
				}
			}
		}
		return subjects
	}
	again := func(key string) {
		t.Helper()
		if _, err := s.Pay(t.Context(), key, usd(a, b, 1)); err != nil {
			t.Fatal(err)
		}
	}
	age := func(ms int) {
		s.must(t, `update payments set created_ms = created_ms - $1, claimed_ms = claimed_ms - $1 where not house`, ms)
		s.must(t, `delete from idempotency_keys`)
	}
	again("reused")
	s.must(t, `update payments set claimed_ms = claimed_ms - 30000 where idem_key = 'reused'`) // it waited
	age(day - 20_000)
	again("reused")
	if got := doubles(); len(got) != 0 {
		t.Errorf("false alarm: %v", got)
	}
	again("double")
	s.must(t, `delete from idempotency_keys`)
	again("double")
	age(2 * day)
	again("double")
	if got := doubles(); len(got) != 1 || got[0] != "double" {
		t.Errorf("found %v, want the double beside a later payment", got)
	}
}

// 300 callers want to write; the sign of life does not wait for them.
func testSignOfLife(t *testing.T, dsn string) {
	s := open(t, dsn)
	hold, waiting := make(chan struct{}), make(chan struct{}, 300)
	var callers sync.WaitGroup
	for range 300 {
		callers.Go(func() {
			_ = s.tx(t.Context(), func(context.Context, *tx) error {
				waiting <- struct{}{}
				<-hold
				return errRollback
			})
		})
	}
	for range cap(s.turns) {
		<-waiting
	}
	beat := make(chan error, 1)
	go func() {
		_, err := s.Mark(t.Context(), "r")
		beat <- err
	}()
	if s.Name() == "sqlite" {
		for before := time.Now(); s.db.Stats().WaitCount == 0 && time.Since(before) < busyPatience; {
			runtime.Gosched()
		}
		hold <- struct{}{} // one transaction ends, the next caller takes its turn
	}
	select {
	case err := <-beat:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(2 * time.Second):
		t.Error("the sign of life waits with the callers")
	}
	close(hold)
	callers.Wait()
}

func testLostCheckpoint(t *testing.T, dsn string) {
	s := open(t, dsn)
	if _, err := s.StartBatch(t.Context(), "k", []Transfer{usd(a, b, 1), usd(a, b, 2)}); err != nil {
		t.Fatal(err)
	}
	held, err := s.ClaimBatch(t.Context(), "w", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	key, item, err := s.BatchItem(t.Context(), held)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time knows nothing of the first
		next, err := s.StepBatch(t.Context(), held, key, item, time.Hour)
		if err != nil || next.Position != 1 || balance(t, s, b) != 1001 {
			t.Fatalf("%+v %v, balance %d", next, err, balance(t, s, b))
		}
	}
	held.Position = 1
	if done := work(t, s, held); done.Status != "completed" || balance(t, s, b) != 1003 {
		t.Errorf("%+v", done)
	}
}

// PostgreSQL is stopped in its tracks. Every call ends in time, says that it may be made again, and does not hide behind
// the caller's own deadline.
func TestFrozenPostgres(t *testing.T) {
	server := pgtest.Start(t)
	s := open(t, server.NewDatabase())
	batch, err := s.StartBatch(t.Context(), "b", []Transfer{usd(a, b, 1)})
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]func(context.Context) error{
		"Paid":       func(ctx context.Context) error { _, _, err := s.Paid(ctx, "k", usd(a, b, 1)); return err },
		"Payment":    func(ctx context.Context) error { _, err := s.Payment(ctx, "p"); return err },
		"PaymentsOf": func(ctx context.Context) error { _, err := s.PaymentsOf(ctx, "k"); return err },
		"Batch":      func(ctx context.Context) error { _, err := s.Batch(ctx, batch.ID); return err },
		"BatchItem":  func(ctx context.Context) error { _, _, err := s.BatchItem(ctx, batch); return err },
		"Pay":        func(ctx context.Context) error { _, err := s.Pay(ctx, "k", usd(a, b, 1)); return err },
		"Reserve":    func(ctx context.Context) error { _, err := s.Reserve(ctx, "r", "item-0000", 1); return err },
		"StartBatch": func(ctx context.Context) error {
			_, err := s.StartBatch(ctx, "c", []Transfer{usd(a, b, 1)})
			return err
		},
		"ClaimBatch": func(ctx context.Context) error { _, err := s.ClaimBatch(ctx, "w", time.Second); return err },
		"Lead":       func(ctx context.Context) error { _, err := s.Lead(ctx, "l", "w", time.Second); return err },
		"Mark":       func(ctx context.Context) error { _, err := s.Mark(ctx, "r"); return err },
		"Synthetic":  s.Synthetic,
		"LastAlive":  func(ctx context.Context) error { _, _, err := s.LastAlive(ctx, "r", time.Second); return err },
		"LastStop":   func(ctx context.Context) error { _, err := s.LastStop(ctx); return err },
		"Newest":     func(ctx context.Context) error { _, _, err := s.NewestPayment(ctx); return err },
	}
	thaw := server.Freeze()
	defer thaw()
	var wg sync.WaitGroup
	for name, call := range calls {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 3*patience+busyPatience)
			defer cancel()
			if err := call(ctx); !errors.Is(err, ErrUnavailable) || ctx.Err() != nil {
				t.Errorf("%s: %v, want ErrUnavailable in time", name, err)
			}
		})
	}
	wg.Go(func() {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := s.Payment(ctx, "p"); errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the caller's own deadline: %v", err)
		}
	})
	wg.Wait()
	thaw()
	for deadline := time.Now().Add(time.Minute); ; {
		if _, err := s.Pay(t.Context(), "k", usd(a, b, 1)); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("after the thaw: %v", err)
		}
	}
	sound(t, s)
}

// Another process migrates, and does not end: the wait ends with the context.
func TestMigrationLockWaitsForContext(t *testing.T) {
	d := sqliteDialect{filepath.Join(t.TempDir(), "books.db")}
	unlock, err := d.alone(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := Open(ctx, "sqlite:"+d.path)
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
	unlock()
	if unlock, err = d.alone(t.Context()); err != nil {
		t.Fatal(err)
	}
	unlock()
}

// What a server says of itself passes; what it says of our statement is a bug of ours.
func TestKindsOfPostgresErrors(t *testing.T) {
	for code, want := range map[string]error{
		"40001": ErrBusy, "40P01": ErrBusy, "55P03": ErrBusy, // serialization, deadlock, lock timeout
		"57014": ErrUnavailable, "25P03": ErrUnavailable, // our timeouts, noticed after a freeze of either side
		"57P01": ErrUnavailable, "08006": ErrUnavailable, "53300": ErrUnavailable, "58030": ErrUnavailable,
		"25006": ErrUnavailable, "28P01": ErrUnavailable, "3D000": ErrUnavailable,
		"42P01": nil, "23514": nil, "22003": nil,
	} {
		kind, said := postgresDialect{}.kind(fmt.Errorf("around: %w", &pgconn.PgError{Code: code}))
		if !errors.Is(kind, want) || (want == nil) != (kind == nil) {
			t.Errorf("%s: %v, want %v", code, kind, want)
		}
		if rolledBack := code[:2] == "40" || code[:2] == "55" || code[:2] == "23"; said != rolledBack {
			t.Errorf("%s at a commit: said %v, want %v", code, said, rolledBack)
		}
	}
}
