package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/scripts/pgtest"
)

// Every test of the suite gets an empty store, on each database.
var suite = map[string]func(t *testing.T, dsn string){
	"migrations are safe when many start at once":     testMigrateTogether,
	"a payment happens once per key":                  testPayOnce,
	"a refusal is remembered":                         testRefusalRemembered,
	"64 clients on one key":                           testOneKey,
	"64 clients on one account":                       testOneAccount,
	"64 clients on one item":                          testOneItem,
	"crossing payments":                               testCrossing,
	"a failed transaction leaves no key":              testNoStuckKey,
	"keys expire and are swept":                       testSweep,
	"the synthetic payment leaves no trace":           testSynthetic,
	"a batch is resumed by another, the first fenced": testBatchFencing,

	"callers and the house share no keys":         testNamespaces,
	"nobody makes money":                          testNoMoneyFromNothing,
	"a lease survives a clock put right":          testClockPutRight,
	"keys used again, and doubles":                testDoubles,
	"a sign of life passes all who wait":          testSignOfLife,
	"an answer to a batch's commit that was lost": testLostCheckpoint,

	"one leader":                   testLeader,
	"marks":                        testMarks,
	"reconciliation":               testReconcile,
	"the audit log is append-only": testAuditAppendOnly,
}

func TestStore(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		for name, test := range suite {
			t.Run(name, func(t *testing.T) { test(t, "sqlite:"+filepath.Join(t.TempDir(), "books.db")) })
		}
	})
	t.Run("postgres", func(t *testing.T) {
		server := pgtest.Start(t)
		for name, test := range suite {
			t.Run(name, func(t *testing.T) { test(t, server.NewDatabase()) })
		}
	})
}

func open(t testing.TB, dsn string) *Store {
	t.Helper()
	s, err := Open(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := s.Seed(context.Background(), 4, 1000, 2, 10); err != nil {
		t.Fatal(err)
	}
	return s
}

const a, b = "acct-0000", "acct-0001"

func usd(from, to string, amount int64) Transfer { return Transfer{from, to, amount, "USD"} }

// sound fails the test when the books do not add up.
func sound(t *testing.T, s *Store) {
	t.Helper()
	for _, r := range s.Reconcile(t.Context(), true) {
		if r.Err != nil || len(r.Findings) > 0 {
			t.Errorf("%s: %v %v", r.Kind, r.Findings, r.Err)
		}
	}
}

func (s *Store) number(t *testing.T, query string, args ...any) (n int64) {
	t.Helper()
	if err := s.row(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

func balance(t *testing.T, s *Store, id string) int64 {
	t.Helper()
	return s.number(t, `select balance from accounts where id = $1`, id)
}

func testMigrateTogether(t *testing.T, dsn string) {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			s, err := Open(t.Context(), dsn)
			if err == nil {
				err = errors.Join(s.Seed(t.Context(), 4, 1000, 2, 10), s.Close())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s := open(t, dsn)
	if n := s.number(t, `select count(*) from payments`); n != 4 {
		t.Errorf("%d opening payments, want 4", n)
	}
	sound(t, s)
}

func testPayOnce(t *testing.T, dsn string) {
	s := open(t, dsn)
	first, err := s.Pay(t.Context(), "k", usd(a, b, 100))
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.Pay(t.Context(), "k", usd(a, b, 100))
	if err != nil || second != first {
		t.Errorf("same key, same body: %+v, %v, want %+v", second, err, first)
	}
	if known, ok, err := s.Paid(t.Context(), "k", usd(a, b, 100)); !ok || err != nil || known != first {
		t.Errorf("Paid: %+v %v %v", known, ok, err)
	}
	if _, err := s.Pay(t.Context(), "k", usd(a, b, 101)); !errors.Is(err, ErrKeyReused) {
		t.Errorf("same key, other body: %v, want ErrKeyReused", err)
	}
	if got := balance(t, s, a); got != 900 {
		t.Errorf("balance %d, want 900", got)
	}
	if ids, err := s.PaymentsOf(t.Context(), "k"); len(ids) != 1 || ids[0] != first.ID || err != nil {
		t.Errorf("PaymentsOf: %v %v", ids, err)
	}
	if _, err := s.Payment(t.Context(), "nope"); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown payment: %v", err)
	}
	sound(t, s)
}

func testRefusalRemembered(t *testing.T, dsn string) {
	s := open(t, dsn)
	for want, transfer := range map[string]Transfer{
		"insufficient_funds": usd(a, b, 5000),
		"unknown_account":    usd(a, "nobody", 1),
		"currency_mismatch":  {a, b, 1, "EUR"},
	} {
		for range 2 {
			_, err := s.Pay(t.Context(), want, transfer)
			if no, ok := errors.AsType[*RefusalError](err); !ok || no.Code != want {
				t.Errorf("%s: %v", want, err)
			}
		}
	}
	if _, err := s.Pay(t.Context(), "topup", usd(b, a, 1000)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Pay(t.Context(), "topup2", usd("acct-0002", a, 1000)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Pay(t.Context(), "topup3", usd("acct-0003", a, 1000)); err != nil {
		t.Fatal(err)
	}
	_, err := s.Pay(t.Context(), "insufficient_funds", usd(a, b, 5000))
	if _, ok := errors.AsType[*RefusalError](err); !ok {
		t.Errorf("the same key got another answer later: %v", err)
	}
	sound(t, s)
}

func testNoStuckKey(t *testing.T, dsn string) {
	s := open(t, dsn)
	boom := errors.New("boom")
	err := s.tx(t.Context(), func(ctx context.Context, x *tx) error {
		if _, _, err := x.pay(ctx, "k", usd(a, b, 100)); err != nil {
			t.Fatal(err)
		}
		return boom // the process dies before the commit
	})
	if !errors.Is(err, boom) {
		t.Fatal(err)
	}
	if n := s.number(t, `select count(*) from idempotency_keys where key = 'k'`); n != 0 {
		t.Fatalf("%d keys left behind", n)
	}
	if _, err := s.Pay(t.Context(), "k", usd(a, b, 100)); err != nil {
		t.Errorf("the retry: %v", err)
	}
	sound(t, s)
}

func testSweep(t *testing.T, dsn string) {
	s := open(t, dsn)
	s.keyTTL = -time.Millisecond // expired when it is written
	p, err := s.Pay(t.Context(), "old", usd(a, b, 1))
	if err != nil {
		t.Fatal(err)
	}
	s.keyTTL = DefaultKeyTTL
	if _, err := s.Pay(t.Context(), "new", usd(a, b, 1)); err != nil {
		t.Fatal(err)
	}
	if n, err := s.SweepKeys(t.Context(), 100); n != 1 || err != nil {
		t.Errorf("swept %d, %v, want the old one", n, err)
	}
	again, err := s.Pay(t.Context(), "old", usd(a, b, 2))
	if err != nil || again.ID == p.ID {
		t.Errorf("an expired key is free for anything: %+v %v", again, err)
	}
	if n := s.number(t, `select count(*) from idempotency_keys where key = 'new'`); n != 1 {
		t.Error("a living key was swept")
	}
}

func testSynthetic(t *testing.T, dsn string) {
	s := open(t, dsn)
	before := s.number(t, `select count(*) from payments`) + s.number(t, `select count(*) from idempotency_keys`)
	together(8, func(int) {
		if err := s.Synthetic(t.Context()); err != nil {
			t.Error(err)
		}
	})
	after := s.number(t, `select count(*) from payments`) + s.number(t, `select count(*) from idempotency_keys`)
	if n := s.number(t, `select count(*) from accounts where kind = 'reserved'`); before != after || n != 0 {
		t.Errorf("%d rows before, %d after, %d reserved accounts: want no trace", before, after, n)
	}
	if _, err := s.db.ExecContext(t.Context(), `alter table entries rename to entries_gone`); err != nil {
		t.Fatal(err)
	}
	if err := s.Synthetic(t.Context()); err == nil {
		t.Error("the synthetic payment does not notice that the journal is gone")
	}
}

func testBatchFencing(t *testing.T, dsn string) {
	s := open(t, dsn)
	items := []Transfer{usd(a, b, 10), usd(a, b, 5000), usd(b, a, 3)}
	started, err := s.StartBatch(t.Context(), "k", items)
	if err != nil || started.Total != 3 || started.Status != "pending" {
		t.Fatalf("%+v %v", started, err)
	}
	if same, err := s.StartBatch(t.Context(), "k", items); err != nil || same.ID != started.ID {
		t.Fatalf("started twice: %+v %v", same, err)
	}
	step := func(b Batch) (Batch, error) {
		key, item, err := s.BatchItem(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		return s.StepBatch(t.Context(), b, key, item, time.Hour)
	}
	// The first worker does one item and dies: its lease runs out at once.
	first, err := s.ClaimBatch(t.Context(), "first", time.Hour)
	if err != nil || first.Owner != "first" {
		t.Fatalf("%+v %v", first, err)
	}
	if _, err := s.ClaimBatch(t.Context(), "second", time.Hour); !errors.Is(err, ErrNotFound) {
		t.Fatalf("two workers on one batch: %v", err)
	}
	if first, err = step(first); err != nil || first.Position != 1 {
		t.Fatalf("%+v %v", first, err)
	}
	if _, err := s.db.ExecContext(t.Context(), `update batches set lease_until_ms = 0`); err != nil {
		t.Fatal(err)
	}
	second, err := s.ClaimBatch(t.Context(), "second", time.Hour)
	if err != nil || second.Position != 1 || second.Fence <= first.Fence {
		t.Fatalf("%+v %v", second, err)
	}
	// The first wakes up again.
	if _, err := step(first); !errors.Is(err, ErrFenced) {
		t.Errorf("a worker without the lease went on: %v", err)
	}
	if err := s.ReleaseBatch(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	for second.Status == "running" {
		if second, err = step(second); err != nil {
			t.Fatal(err)
		}
	}
	if second.Position != 3 || second.Failed != 1 || second.Status != "completed" {
		t.Errorf("%+v, want 3 items, 1 refused", second)
	}
	if x, y := balance(t, s, a), balance(t, s, b); x != 993 || y != 1007 {
		t.Errorf("balances %d and %d, want 993 and 1007", x, y)
	}
	if _, err := s.ClaimBatch(t.Context(), "third", time.Hour); !errors.Is(err, ErrNotFound) {
		t.Errorf("a completed batch was claimed: %v", err)
	}
	sound(t, s)
}

func testLeader(t *testing.T, dsn string) {
	s := open(t, dsn)
	var mu sync.Mutex
	leaders := 0
	together(16, func(i int) {
		leads, err := s.Lead(t.Context(), "l", fmt.Sprint(i), time.Hour)
		if err != nil {
			t.Error(err)
		}
		if leads {
			mu.Lock()
			leaders++
			mu.Unlock()
		}
	})
	if leaders != 1 {
		t.Errorf("%d leaders", leaders)
	}
	lead := func(owner string) bool {
		leads, err := s.Lead(t.Context(), "m", owner, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return leads
	}
	if !lead("x") || lead("y") {
		t.Error("want x to lead, and y to wait")
	}
	if !lead("x") {
		t.Error("x cannot renew its lease")
	}
	if err := s.StepDown(t.Context(), "m", "x"); err != nil || !lead("y") {
		t.Errorf("y does not lead after x stepped down: %v", err)
	}
}

func testMarks(t *testing.T, dsn string) {
	s := open(t, dsn)
	seen := func(as string) (Outage, bool) {
		o, ok, err := s.LastAlive(t.Context(), as, 3*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		return o, ok
	}
	if _, ok := seen("r"); ok {
		t.Fatal("an outage before the first start")
	}
	if _, err := s.Mark(t.Context(), "r"); err != nil {
		t.Fatal(err)
	}
	if o, ok := seen("r"); !ok || !o.Crash {
		t.Errorf("r died and came back: %+v %v, want a crash", o, ok)
	}
	if _, ok := seen("other"); ok {
		t.Error("an outage although r lives")
	}
	if _, err := s.db.ExecContext(t.Context(), `update marks set at_ms = at_ms - 60000`); err != nil {
		t.Fatal(err)
	}
	if o, ok := seen("other"); !ok || !o.Crash || o.Since < time.Minute {
		t.Errorf("%+v %v, want a crash at least a minute ago", o, ok)
	}
	// A mark from before the clock was put back is no sign of life.
	if _, err := s.db.ExecContext(t.Context(), `insert into marks select 'ahead', at_ms + 3600000, clean, stop_ms from marks`); err != nil {
		t.Fatal(err)
	}
	if o, ok := seen("other"); !ok || o.Since < time.Minute {
		t.Errorf("%+v %v, want the outage in spite of a mark in the future", o, ok)
	}
	if err := s.Goodbye(t.Context(), "r", 1500*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if o, ok := seen("other"); !ok || o.Crash {
		t.Errorf("r said goodbye: %+v %v, want a planned outage", o, ok)
	}
	if d, err := s.LastStop(t.Context()); err != nil || d != 1500*time.Millisecond {
		t.Errorf("last stop %v %v", d, err)
	}
}

func testAuditAppendOnly(t *testing.T, dsn string) {
	s := open(t, dsn)
	if _, err := s.db.ExecContext(t.Context(), `insert into audit_log (at_ms, kind, subject, action, detail) values (1, 'k', 's', 'a', 'd')`); err != nil {
		t.Fatal(err)
	}
	for _, query := range []string{`update audit_log set action = 'x'`, `delete from audit_log`} {
		if _, err := s.db.ExecContext(t.Context(), query); err == nil || !strings.Contains(err.Error(), "append-only") {
			t.Errorf("%s: %v", query, err)
		}
	}
}
