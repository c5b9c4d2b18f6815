package e2e

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // to look into PostgreSQL
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	_ "modernc.org/sqlite" // to look into a SQLite file

	"github.com/drain-agent/drain-agent/app/api"
	"github.com/drain-agent/drain-agent/scripts/demo/balancer"
	"github.com/drain-agent/drain-agent/scripts/pgtest"
	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

const batchItems = 500

// A pod is deleted in the middle of a batch and of payments. Nobody's payment fails, the batch is checkpointed before the app's
// hook is answered, another replica goes on at that very item, and every acknowledged payment is in the ledger exactly once.
//
// Both replicas use one store: a SQLite file that both pods mount, or PostgreSQL.
func TestPodIsDeletedDuringABatchAndPayments(t *testing.T) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		dir, err := os.MkdirTemp("", "books") //nolint:usetesting // outlives the pods, whose clean-up runs later
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		deleteDuringBatch(t, "sqlite:"+filepath.Join(dir, "books.db"))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		deleteDuringBatch(t, pgtest.Start(t).NewDatabase())
	})
}

func deleteDuringBatch(t *testing.T, dsn string) {
	lastPort := "--watch=app=port:8090" // closing the store may take seconds on a busy disk, and the listener of payments is closed before
	first := start(t, setup{agent: []string{tellApp, lastPort}, appArgs: []string{"--store=" + dsn, "--batch-item-delay=100ms"}})
	direct, hangUp := first.payments()
	batch := first.startBatch(direct)
	first.until("the batch to be under way", func() bool { return position(direct, batch) > 0 })
	second := start(t, setup{agent: []string{tellApp}, appArgs: []string{"--store=" + dsn}})

	service, err := balancer.Listen(t.Context(), "127.0.0.1:0", balancer.KubeProxy())
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	service.Add("first", first.addr(inbound))
	stopClients := first.pay(service.Addr())
	service.Add("second", second.addr(inbound))
	before := position(direct, batch)
	hangUp() // or the agent waits for this connection to be used again
	service.Remove("first")
	first.stop()
	sent := stopClients()

	v := first.verdict("clean")
	first.noCap()
	first.wantCut(nil)
	left, ok := first.appSaid("batch checkpointed and released")
	if !ok || left.Position <= before || left.Position >= batchItems {
		t.Errorf("released at item %d of %d, it was at %d when the pod was deleted", left.Position, batchItems, before)
	}
	if answered, _ := first.when("app", pod.HookAnswered); answered.Before(left.Time) {
		t.Errorf("the app was let go %v before the checkpoint", left.Time.Sub(answered))
	}
	rest, hangUp := second.payments()
	defer hangUp()
	second.until("the batch to complete", func() bool { return position(rest, batch) == batchItems })
	if went, ok := second.appSaid("batch taken"); !ok || went.Position != left.Position {
		t.Errorf("the other replica went on at item %d, the first had left it at %d", went.Position, left.Position)
	}
	exactlyOnce(t, dsn, batch)
	if out, err := exec.Command(binaries.app, "reconcile", "--dry-run", "--store="+dsn).CombinedOutput(); err != nil {
		t.Errorf("the books: %v: %s", err, out)
	}
	t.Logf("deleted at item %d, checkpointed at %d, in %d ms; payments %s", before, left.Position, v.TotalMS, sent)
}

// payments calls the pod's service through its Envoy.
func (u *under) payments() (payments api.PaymentServiceClient, hangUp func()) {
	u.t.Helper()
	conn, err := grpc.NewClient(u.addr(inbound), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		u.t.Fatal(err)
	}
	return api.NewPaymentServiceClient(conn), func() { _ = conn.Close() }
}

func (u *under) startBatch(payments api.PaymentServiceClient) string {
	u.t.Helper()
	req := &api.StartBatchRequest{IdempotencyKey: "batch"}
	for i := range batchItems {
		req.Payments = append(req.Payments, &api.ProcessPaymentRequest{
			FromAccount: fmt.Sprintf("acct-%04d", i%100), ToAccount: fmt.Sprintf("acct-%04d", (i+1)%100), Amount: 1, Currency: "USD",
		})
	}
	b, err := payments.StartBatch(u.t.Context(), req)
	if err != nil {
		u.t.Fatal(err)
	}
	return b.GetBatchId()
}

func position(payments api.PaymentServiceClient, batch string) int64 {
	b, err := payments.GetBatch(context.Background(), &api.GetBatchRequest{BatchId: batch})
	if err != nil {
		return 0
	}
	return b.GetPosition()
}

// pay sends payments that are never retried, until stop is called. The client itself compares the ledger with every answer.
func (u *under) pay(target string) (stop func() string) {
	u.t.Helper()
	cmd := exec.Command(binaries.app, "client", "--target="+target, "--rate=30", "--duration=0")
	out, err := cmd.StdoutPipe()
	cmd.Stderr = os.Stderr
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(func() { _ = cmd.Process.Kill() }) // it has ended, unless the test failed
	lines := bufio.NewScanner(out)
	for lines.Scan() && strings.Contains(lines.Text(), "ok 0 ") { // a line a second
	}
	return func() string {
		_ = cmd.Process.Signal(os.Interrupt)
		var report strings.Builder
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "sent ") || report.Len() > 0 {
				report.WriteString(lines.Text() + "; ")
			}
		}
		var sent, ok, missed, retried int
		if _, err := fmt.Sscanf(report.String(), "sent %d  ok %d  not sent %d  retries %d", &sent, &ok, &missed, &retried); err != nil || cmd.Wait() != nil {
			u.t.Fatalf("the client: %v: %s", err, report.String())
		}
		if ok == 0 || ok != sent || missed > 0 || !strings.Contains(report.String(), fmt.Sprintf("ledger: %d acknowledged, 0 lost, 0 doubled", sent)) {
			u.t.Errorf("payments: %s", report.String())
		}
		return report.String()
	}
}

// batchLine is what the app logs about its batch.
type batchLine struct {
	Time     time.Time
	Msg      string
	Position int64
}

// appSaid finds the last line of the app with that message.
func (u *under) appSaid(msg string) (last batchLine, ok bool) {
	for line := range bytes.Lines(u.Log("app")) {
		var l batchLine
		if json.Unmarshal(line, &l) == nil && l.Msg == msg {
			last, ok = l, true
		}
	}
	return last, ok
}

// exactlyOnce fails the test unless every item of the batch made one payment. The house's payments have no caller's key, so the
// store itself is asked.
func exactlyOnce(t *testing.T, dsn, batch string) {
	t.Helper()
	driver, source := "pgx", dsn
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		driver, source = "sqlite", "file:"+path+"?_pragma=busy_timeout(5000)"
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var payments, items int
	err = db.QueryRowContext(t.Context(), `select count(*), count(distinct idem_key) from payments
		where house and status = 'completed' and idem_key like $1`, batch+"/%").Scan(&payments, &items)
	if err != nil || payments != batchItems || items != batchItems {
		t.Errorf("%d payments for %d items, want one for each of %d: %v", payments, items, batchItems, err)
	}
}
