package store

import (
	"cmp"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/drain-agent/drain-agent/scripts/pgtest"
)

// The checker: callers share a few accounts and keys while commits are cut off before and after they happen. Every call is
// repeated under its key until it has an answer; then there must be one order of all calls, within the times they
// took, in which every answer and every balance read is right.

const (
	historyAccounts = 3
	historyKeys     = 30 // so that most keys are used more than once
	historyCalls    = 12 // of each caller
	historyCallers  = 5
	histories       = 1000 // of a store with a bug, until it is found; few bugs take more than three
)

// tries is for calls that may be repeated until the time of go test is nearly over: how fast the machine is decides nothing.
func tries(t *testing.T) (context.Context, context.CancelFunc) {
	if end, limited := t.Deadline(); limited {
		return context.WithDeadline(t.Context(), end.Add(-10*time.Second))
	}
	return context.WithCancel(t.Context())
}

type call struct {
	kind     string // "pay", "reserve", "read"
	key      int
	from, to int
	amount   int64
}

type answer struct {
	code string // "ok" or the refusal
	left int64  // stock after a reservation
	sums books
}

// books is what the model knows: done has a letter for each key, '.' while it is free.
type books struct {
	balances [historyAccounts]int64
	stock    int64
	done     string
}

var letters = map[string]byte{"ok": 'o', "insufficient_funds": 'f', "insufficient_stock": 's'}

// step tells whether the answer is right in this state, and what the state is afterwards.
func step(state, input, output any) (bool, any) {
	s, in, out := state.(books), input.(call), output.(answer)
	if in.kind == "read" {
		return s.balances == out.sums.balances && s.stock == out.sums.stock, s
	}
	letter := letters[out.code]
	if was := s.done[in.key]; was != '.' {
		return was == letter, s
	}
	s.done = s.done[:in.key] + string(letter) + s.done[in.key+1:]
	if in.kind == "reserve" {
		if s.stock < in.amount {
			return out.code == "insufficient_stock", s
		}
		s.stock -= in.amount
		return out.code == "ok" && out.left == s.stock, s
	}
	if s.balances[in.from] < in.amount {
		return out.code == "insufficient_funds", s
	}
	s.balances[in.from] -= in.amount
	s.balances[in.to] += in.amount
	return out.code == "ok", s
}

// callOf is what is asked for under a key, always the same. Amounts are as large as the balances, so that the last unit is
// often asked for.
func callOf(key int) call {
	if key%5 == 4 {
		return call{kind: "reserve", key: key, amount: int64(1 + key%3)}
	}
	from := key % historyAccounts
	return call{kind: "pay", key: key, from: from, to: (from + 1 + key/7%(historyAccounts-1)) % historyAccounts, amount: int64(1 + key%4)}
}

// history is one round on fresh books. What it finds wrong is returned.
func history(t *testing.T, s *Store, cut *cutter) (problem string) {
	ctx, cancel := tries(t)
	defer cancel()
	prefix := fmt.Sprint(rand.Uint64(), "/")
	start := books{stock: 8, done: strings.Repeat(".", historyKeys)}
	for i := range start.balances {
		start.balances[i] = 4
		s.must(t, `insert into accounts (id, kind, currency, balance) values ($1, 'customer', 'USD', 4)`, fmt.Sprint(prefix, i))
	}
	s.must(t, `insert into items (id, initial, stock) values ($1, 8, 8)`, prefix)
	r := &recorder{s: s, prefix: prefix, ids: map[int]string{}, began: time.Now(), stop: cancel}
	cut.on.Store(true)
	var callers sync.WaitGroup
	for caller := range historyCallers {
		callers.Go(func() {
			for n := range historyCalls {
				in := call{kind: "read"}
				if n%4 != 3 {
					in = callOf(rand.IntN(historyKeys))
				}
				r.run(ctx, caller, in)
			}
		})
	}
	callers.Wait()
	cut.on.Store(false)
	r.run(ctx, 0, call{kind: "read"})
	if r.problem != "" {
		return r.problem
	}
	model := porcupine.Model{Init: func() any { return start }, Step: step}
	verdict := porcupine.CheckOperationsTimeout(model, r.ops, 10*time.Second)
	if verdict == porcupine.Illegal {
		return "no order of the calls explains the answers"
	}
	if verdict == porcupine.Unknown {
		t.Log("a history was too tangled to be judged in time")
	}
	return ""
}

// recorder collects the operations of one history.
type recorder struct {
	s       *Store
	prefix  string
	began   time.Time
	stop    func() // the others, when something is wrong
	mu      sync.Mutex
	ops     []porcupine.Operation
	ids     map[int]string // what each key led to
	problem string
}

func (r *recorder) wrong(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.problem == "" {
		r.problem = fmt.Sprintf(format, args...)
		r.stop()
	}
}

// run repeats a call until it has an answer, each time with more patience.
func (r *recorder) run(ctx context.Context, caller int, in call) {
	began := time.Since(r.began)
	for patience := time.Second; ; patience = min(2*patience, time.Hour) {
		out, id, err := r.try(ctx, in, patience)
		if err == nil {
			ended := time.Since(r.began)
			r.mu.Lock()
			r.ops = append(r.ops, porcupine.Operation{ClientId: caller, Input: in, Call: int64(began), Output: out, Return: int64(ended)})
			before, again := r.ids[in.key]
			if id != "" && !again {
				r.ids[in.key] = id
			}
			r.mu.Unlock()
			if id != "" && again && before != id {
				r.wrong("key %d led to %s and to %s", in.key, before, id)
			}
			return
		}
		switch {
		case !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrBusy) && !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrUncertain) && ctx.Err() == nil:
			r.wrong("an answer nobody foresaw: %v", err)
			return
		case ctx.Err() != nil || strings.Contains(err.Error(), "with this key is running"):
			r.wrong("no answer: %v", err)
			return
		}
	}
}

func (r *recorder) try(ctx context.Context, in call, patience time.Duration) (out answer, id string, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	key := fmt.Sprint(r.prefix, in.key)
	switch in.kind {
	case "read":
		out.sums, err = r.read(ctx)
		return out, "", err
	case "reserve":
		var got Reservation
		got, err = r.s.Reserve(ctx, key, r.prefix, in.amount)
		out.left, id = got.StockLeft, got.ID
	default:
		var got Payment
		got, err = r.s.Pay(ctx, key, usd(fmt.Sprint(r.prefix, in.from), fmt.Sprint(r.prefix, in.to), in.amount))
		id = got.ID
	}
	if err != nil && ctx.Err() != nil { // whatever broke then, the service says that it was the caller's deadline
		err = errors.Join(err, ctx.Err())
	}
	out.code = "ok"
	if no, refused := errors.AsType[*RefusalError](err); refused {
		out.code, id, err = no.Code, no.Code, nil
	}
	return out, id, err
}

// read sees all balances and the stock in one statement.
func (r *recorder) read(ctx context.Context) (b books, err error) {
	dest := []any{&b.stock}
	var query strings.Builder
	query.WriteString(`select stock`)
	for i := range b.balances {
		fmt.Fprintf(&query, `, (select balance from accounts where id = '%s%d')`, r.prefix, i)
		dest = append(dest, &b.balances[i])
	}
	return b, r.s.row(ctx, query.String()+` from items where id = $1`, r.prefix).Scan(dest...)
}

// mutant changes one statement of ours.
type mutant struct {
	dialect
	from, to string
	hit      func()
}

func (m mutant) rewrite(query string) string {
	if changed := strings.ReplaceAll(query, m.from, m.to); changed != query {
		m.hit()
		query = changed
	}
	return m.dialect.rewrite(query)
}

// bugs are what the checker must find.
var bugs = map[string]struct {
	from, to string // in a statement
	commit   func(tx driver.Tx, commit func() error) error
	ttl      time.Duration
	only     string
}{
	"short TTL":                      {ttl: time.Millisecond},
	"wrong stock":                    {from: "set stock = stock - $2", to: "set stock = stock - $2 + 1"},
	"wrong stock in the answer":      {from: "returning stock", to: "returning stock + 1"},
	"missing settle":                 {from: "settled_ms = {now}, ref", to: "settled_ms = null, ref"},
	"missing row lock":               {from: "order by id {lock}", to: "order by id", only: "postgres"},
	"off-by-one refusal":             {from: "kind, currency, balance from", to: "kind, currency, balance - 1 from"},
	"off-by-one refusal of stock":    {from: "and stock >= $2", to: "and stock > $2"},
	"commit error taken for success": {commit: func(_ driver.Tx, commit func() error) error { _ = commit(); return nil }},
	"lost acknowledgement": {commit: func(tx driver.Tx, commit func() error) error {
		if rand.IntN(10) == 0 {
			return tx.Rollback()
		}
		return commit()
	}},
}

// staged is a store whose commits are cut off now and then, half of them after they happened.
func staged(t *testing.T, name string, server *pgtest.Server, bug func(driver.Tx, func() error) error) (*Store, *cutter) {
	t.Helper()
	cut := &cutter{}
	dsn, commit := "sqlite:"+filepath.Join(t.TempDir(), "books.db"), cut.commit
	if name == "postgres" {
		dsn, commit = cut.proxy(t, server.NewDatabase()), driver.Tx.Commit
	}
	s := open(t, dsn)
	tamper(s, func(tx driver.Tx) error {
		if bug != nil {
			return bug(tx, func() error { return commit(tx) })
		}
		return commit(tx)
	})
	return s, cut
}

func onEach(t *testing.T, test func(t *testing.T, name string, server *pgtest.Server)) {
	t.Run("sqlite", func(t *testing.T) { test(t, "sqlite", nil) })
	t.Run("postgres", func(t *testing.T) { test(t, "postgres", pgtest.Start(t)) })
}

// HISTORIES=10m makes it long.
func TestHistories(t *testing.T) {
	long, err := time.ParseDuration(cmp.Or(os.Getenv("HISTORIES"), "2s"))
	if err != nil {
		t.Fatalf("HISTORIES: %v", err)
	}
	onEach(t, func(t *testing.T, name string, server *pgtest.Server) {
		s, cut := staged(t, name, server, nil)
		n := 0
		for began := time.Now(); time.Since(began) < long || cut.after.Load() == 0 || cut.before.Load() == 0; n++ {
			if problem := history(t, s, cut); problem != "" {
				t.Fatalf("history %d: %s", n, problem)
			}
		}
		t.Logf("%d histories of %d calls, %d commits cut off before and %d after they happened", n, historyCallers*historyCalls, cut.before.Load(), cut.after.Load())
	})
}

func TestHistoriesFindSeededBugs(t *testing.T) {
	onEach(t, func(t *testing.T, name string, server *pgtest.Server) {
		for what, bug := range bugs {
			if bug.only != "" && bug.only != name {
				continue
			}
			t.Run(what, func(t *testing.T) {
				s, cut := staged(t, name, server, bug.commit)
				var hits atomic.Int64
				if s.keyTTL = cmp.Or(bug.ttl, s.keyTTL); bug.from != "" {
					s.dialect = mutant{s.dialect, bug.from, bug.to, func() { hits.Add(1) }}
				}
				problem, n := "", 0
				for ; problem == "" && n < histories; n++ {
					problem = history(t, s, cut)
				}
				if problem == "" || (bug.from != "" && hits.Load() == 0) {
					t.Errorf("not found; the changed statement ran %d times", hits.Load())
				}
				t.Logf("history %d: %s", n, problem)
			})
		}
	})
}
