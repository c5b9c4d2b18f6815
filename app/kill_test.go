package main

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/app/api"
	"github.com/drain-agent/drain-agent/app/internal/apptest"
	"github.com/drain-agent/drain-agent/app/internal/client"
	"github.com/drain-agent/drain-agent/scripts/pgtest"
)

// forever: the end of the time that go test has is the only limit.
const forever = 1000 * time.Hour

// kills is how often the service is killed: 8 times, or as $APP_KILLS says (make soak: 500).
func kills(t *testing.T) int {
	text := os.Getenv("APP_KILLS")
	if text == "" {
		return 8
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("APP_KILLS is %q, want a number", text)
	}
	return n
}

// binDir is set by TestMain.
var binDir string

var built = sync.OnceValues(func() (string, error) { return apptest.Build(filepath.Join(binDir, "app"), nil) })

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "app")
	if err == nil {
		err = os.Chmod(dir, 0o755) // some tests run the service as somebody else
	}
	if err != nil {
		panic(err)
	}
	binDir = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// binary is the service, built once for all tests.
func binary(tb testing.TB) string {
	tb.Helper()
	bin, err := built()
	if err != nil {
		tb.Fatal(err)
	}
	return bin
}

// onBoth runs a test on each store.
func onBoth(t *testing.T, test func(t *testing.T, dsn string)) {
	t.Run("sqlite", func(t *testing.T) { test(t, "sqlite:"+filepath.Join(t.TempDir(), "books.db")) })
	t.Run("postgres", func(t *testing.T) { test(t, pgtest.Start(t).NewDatabase()) })
}

// SIGKILL at random instants, under 100 payments a second with clients that retry, with reservations and with a batch
// under way, loses and doubles nothing.
func TestSIGKILLLosesNothing(t *testing.T) {
	bin := binary(t)
	onBoth(t, func(t *testing.T, dsn string) {
		damage := killLoop(t, bin, dsn, kills(t), false)
		if len(damage) > 0 {
			t.Errorf("damage after %d kills: %v", kills(t), damage)
		}
	})
}

// The same test finds the bug it is made for: a payment whose commit is split in two.
func TestSIGKILLFindsASplitCommit(t *testing.T) {
	const whole = `	if err := t.post(ctx, id, "credit", want.To, want.Amount); err != nil {`
	path, err := filepath.Abs("internal/store/payments.go")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	split := strings.Replace(string(source), whole, `	for _, q := range []string{"commit", "begin"} {
		if _, err := t.exec(ctx, q); err != nil {
			return Payment{}, err
		}
	}
`+whole, 1)
	if split == string(source) {
		t.Fatal("the bug cannot be seeded: book has changed")
	}
	bin, err := apptest.Build(filepath.Join(t.TempDir(), "app"), map[string]string{path: split})
	if err != nil {
		t.Fatal(err)
	}
	onBoth(t, func(t *testing.T, dsn string) {
		damage := killLoop(t, bin, dsn, 200, true)
		if len(damage) == 0 {
			t.Error("200 kills of a service that commits a payment in two parts, and nothing was noticed")
		}
		t.Logf("noticed: %v", damage)
	})
}

// killLoop returns what it found wrong in the books after n kills. With until it looks while the service is dead, and
// ends at the first damage.
func killLoop(t *testing.T, bin, dsn string, n int, until bool) []string {
	// The lease is shorter than a restart, or the batch would not be under way when the next kill comes.
	app := apptest.New(t, bin, "--store="+dsn, "--reconcile-every=0", "--batch-lease=50ms", "--batch-item-delay=5ms")
	app.Start()
	app.Ready()
	conn, err := client.Dial(app.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	payments := api.NewPaymentServiceClient(conn)
	total := int64(min(40*n, 10_000))
	batch := startBatch(t, payments, total)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var load sync.WaitGroup
	var answered atomic.Bool
	var report *client.Report
	patience := forever // a client asks until it is told, however slow the machine
	if until {
		patience = time.Second // a key that is stuck stays stuck
	}
	load.Go(func() {
		r, err := client.Run(ctx, client.Config{
			Target: app.Addr, Rate: 100, Concurrency: 500, Mode: "payments", RetryFor: patience,
			Timeout: 10 * time.Second, Accounts: 100,
		})
		if err != nil {
			t.Error(err)
		}
		report = r
	})
	var reserved atomic.Int64
	load.Go(func() { reserve(ctx, payments, &reserved) })
	go func() {
		load.Wait()
		answered.Store(true)
	}()

	var at, items int64 // how far they are
	for i := range n {
		if i%5 != 4 { // every fifth dies before it is ready
			app.Ready()
		}
		if i%5 == 0 && !until { // clients come back all at once; the batch gets its turn after them
			app.Await("the batch and the reservations to go on", func() bool {
				now := position(t, payments, batch)
				return reserved.Load() > items && (now > at || now == total)
			})
			at, items = position(t, payments, batch), reserved.Load()
		}
		<-time.After(rand.N(250 * time.Millisecond))
		app.Kill()
		if until && len(books(t, dsn)) > 0 {
			app.Start()
			break
		}
		app.Start()
	}
	under := number(t, dsn, `select position from batches`)
	app.Ready()
	stop()
	app.Await("an answer to every payment", answered.Load)
	damage := books(t, dsn)
	if until && len(damage) > 0 {
		return damage
	}
	t.Logf("%d kills, %d payments acknowledged, %d retries, lost %d, doubled %d; meanwhile %d items reserved, %d of %d batch items paid",
		n, report.Ledger.Acknowledged, report.Retries, report.Ledger.Lost, report.Ledger.Doubled, reserved.Load(), under, total)
	if reserved.Load() == 0 || under == 0 || report.Retries == 0 {
		t.Error("something was not under way when the kills came")
	}
	if l := report.Ledger; !l.Checked || l.Lost > 0 || l.Doubled > 0 || l.Acknowledged == 0 {
		damage = append(damage, fmt.Sprintf("the client's ledger check: %+v", l))
	}
	if len(report.Failures) > 0 {
		damage = append(damage, fmt.Sprintf("payments that never got an answer: %v", report.Failures))
	}
	if taken := number(t, dsn, `select sum(quantity) from reservations`); taken < reserved.Load() {
		damage = append(damage, fmt.Sprintf("%d items reserved, clients were told %d", taken, reserved.Load()))
	}
	app.Await("the batch to end", func() bool { return position(t, payments, batch) == total })
	made := number(t, dsn, `select count(*) from payments where idem_key like 'batch!_%' escape '!'`)
	if made != total {
		damage = append(damage, fmt.Sprintf("a batch of %d made %d payments", total, made))
	}
	return append(damage, books(t, dsn)...)
}

func startBatch(t *testing.T, payments api.PaymentServiceClient, n int64) string {
	t.Helper()
	req := &api.StartBatchRequest{IdempotencyKey: "batch"}
	for i := range n {
		req.Payments = append(req.Payments, &api.ProcessPaymentRequest{
			FromAccount: fmt.Sprintf("acct-%04d", i%100), ToAccount: fmt.Sprintf("acct-%04d", (i+1)%100), Amount: 1, Currency: "USD",
		})
	}
	b, err := payments.StartBatch(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return b.GetBatchId()
}

// position is how many items of the batch are paid, -1 while nobody answers.
func position(t *testing.T, payments api.PaymentServiceClient, batch string) int64 {
	b, err := payments.GetBatch(t.Context(), &api.GetBatchRequest{BatchId: batch})
	if err != nil {
		return -1
	}
	return b.GetPosition()
}

// reserve takes one item after the other, each until it is told so, and counts them.
func reserve(ctx context.Context, payments api.PaymentServiceClient, n *atomic.Int64) {
	for ctx.Err() == nil {
		req := &api.ReserveItemRequest{IdempotencyKey: fmt.Sprint("reserve-", n.Load()), ItemId: "item-0000", Quantity: 1}
		if _, err := payments.ReserveItem(ctx, req); err == nil {
			n.Add(1)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// books looks straight into the database, past all our own code.
func books(t *testing.T, dsn string) (damage []string) {
	t.Helper()
	for what, query := range map[string]string{
		"money made or lost":        `select sum(balance) from accounts`,
		"entries that do not sum":   `select coalesce(sum(amount), 0) from entries`,
		"half payments":             `select count(*) from (select payment_id from entries group by payment_id having count(*) <> 2 or sum(amount) <> 0) as half`,
		"payments without entries":  `select count(*) from payments p where not exists (select 1 from entries e where e.payment_id = p.id)`,
		"keys with two payments":    `select count(*) from (select idem_key from payments group by idem_key having count(*) > 1) as twice`,
		"stuck keys":                `select count(*) from idempotency_keys where settled_ms is null`,
		"items oversold":            `select count(*) from items where stock < 0`,
		"stock without reservation": `select count(*) from items i where i.stock <> i.initial - (select coalesce(sum(quantity), 0) from reservations r where r.item_id = i.id)`,
		"balances off the journal":  `select count(*) from accounts a where a.balance <> (select coalesce(sum(amount), 0) from entries e where e.account_id = a.id)`,
	} {
		if n := number(t, dsn, query); n != 0 {
			damage = append(damage, fmt.Sprintf("%s: %d", what, n))
		}
	}
	return damage
}

// number runs a query of its own connection.
func number(t *testing.T, dsn, query string) (n int64) {
	t.Helper()
	driver, source := "pgx", dsn
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		driver, source = "sqlite", "file:"+path+"?_pragma=busy_timeout(60000)"
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRowContext(context.Background(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}
