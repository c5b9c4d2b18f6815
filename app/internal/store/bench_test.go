package store

import (
	"context"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/scripts/pgtest"
)

// BenchmarkPayments makes payments from 8 callers, in turns with and without the idempotency key, so that whatever else
// the machine does hits both alike. Every commit is synced to disk.
func BenchmarkPayments(b *testing.B) {
	b.Run("sqlite", func(b *testing.B) { benchPayments(b, "sqlite:"+filepath.Join(b.TempDir(), "books.db")) })
	b.Run("postgres", func(b *testing.B) { benchPayments(b, pgtest.Start(b).NewDatabase()) })
}

const benchAccounts, callers, perTurn = 100, 8, 25

func benchPayments(b *testing.B, dsn string) {
	s, err := Open(b.Context(), dsn)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	if err := s.Seed(b.Context(), benchAccounts, 1_000_000_000, 0, 0); err != nil {
		b.Fatal(err)
	}
	withKey := func(ctx context.Context, t Transfer) error {
		_, err := s.Pay(ctx, rand.Text(), t)
		return err
	}
	without := func(ctx context.Context, want Transfer) error {
		return s.tx(ctx, func(ctx context.Context, t *tx) error {
			no, err := t.check(ctx, want)
			if err == nil && no != nil {
				err = no
			}
			if err == nil {
				_, err = t.book(ctx, "", false, want)
			}
			return err
		})
	}
	var keyed, plain turns
	for b.Loop() {
		keyed.run(b, withKey)
		plain.run(b, without)
	}
	b.ReportMetric(keyed.rate(), "payments/s")
	b.ReportMetric(keyed.p99(), "p99-ms")
	b.ReportMetric(plain.rate(), "payments/s-without-key")
	b.ReportMetric(plain.p99(), "p99-ms-without-key")
	b.ReportMetric(100*(plain.rate()/keyed.rate()-1), "%-cost-of-idempotency")
}

// turns collects what some turns took.
type turns struct {
	took time.Duration
	each []time.Duration
}

func (u *turns) run(b *testing.B, pay func(context.Context, Transfer) error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	began := time.Now()
	for range callers {
		wg.Go(func() {
			for range perTurn {
				from := mathrand.IntN(benchAccounts)
				want := usd(fmt.Sprintf("acct-%04d", from), fmt.Sprintf("acct-%04d", (from+1)%benchAccounts), 1)
				start := time.Now()
				if err := pay(b.Context(), want); err != nil {
					b.Error(err)
				}
				mu.Lock()
				u.each = append(u.each, time.Since(start))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	u.took += time.Since(began)
}

func (u *turns) rate() float64 { return float64(len(u.each)) / u.took.Seconds() }

func (u *turns) p99() float64 {
	slices.Sort(u.each)
	return u.each[len(u.each)*99/100].Seconds() * 1000
}
