package store

import (
	"errors"
	"fmt"
	"sync"
	"testing"
)

func together(n int, f func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() { <-start; f(i) })
	}
	close(start)
	wg.Wait()
}

// insist does what a client does with ErrBusy: it tries again under the same key. On a slow disk 64 callers may wait
// longer than the store lets them.
func insist[T any](call func() (T, error)) (T, error) {
	for {
		if got, err := call(); !errors.Is(err, ErrBusy) {
			return got, err
		}
	}
}

// Several keys one after the other: on the first one PostgreSQL's connections are still being made, and few calls really meet.
func testOneKey(t *testing.T, dsn string) {
	s := open(t, dsn)
	const keys = 5
	for key := range keys {
		ids := make([]string, 64)
		together(64, func(i int) {
			p, err := insist(func() (Payment, error) { return s.Pay(t.Context(), fmt.Sprint("k", key), usd(a, b, 100)) })
			if err != nil {
				t.Error(err)
			}
			ids[i] = p.ID
		})
		for _, id := range ids {
			if id != ids[0] {
				t.Fatalf("two answers for one key: %s and %s", id, ids[0])
			}
		}
	}
	if got, want := balance(t, s, a), int64(1000-100*keys); got != want {
		t.Errorf("balance %d, want %d: one effect for each key", got, want)
	}
	sound(t, s)
}

func testOneAccount(t *testing.T, dsn string) {
	s := open(t, dsn)
	var mu sync.Mutex
	paid := 0
	together(64, func(i int) {
		_, err := insist(func() (Payment, error) { return s.Pay(t.Context(), fmt.Sprint("k", i), usd(a, b, 100)) })
		no, refused := errors.AsType[*RefusalError](err)
		switch {
		case err == nil:
			mu.Lock()
			paid++
			mu.Unlock()
		case !refused || no.Code != "insufficient_funds":
			t.Error(err)
		}
	})
	if got := balance(t, s, a); paid != 10 || got != 0 {
		t.Errorf("%d paid, balance %d; want 10 payments of 100 out of 1000, and 0", paid, got)
	}
	sound(t, s)
}

func testOneItem(t *testing.T, dsn string) {
	s := open(t, dsn)
	var mu sync.Mutex
	left := map[int64]int{}
	together(64, func(i int) {
		r, err := insist(func() (Reservation, error) { return s.Reserve(t.Context(), fmt.Sprint("k", i), "item-0000", 1) })
		no, refused := errors.AsType[*RefusalError](err)
		switch {
		case err == nil:
			mu.Lock()
			left[r.StockLeft]++
			mu.Unlock()
		case !refused || no.Code != "insufficient_stock":
			t.Error(err)
		}
	})
	if len(left) != 10 {
		t.Errorf("%d different reservations, want 10: %v", len(left), left)
	}
	if got := s.number(t, `select stock from items where id = 'item-0000'`); got != 0 {
		t.Errorf("stock %d, want 0", got)
	}
	sound(t, s)
}

func testCrossing(t *testing.T, dsn string) {
	s := open(t, dsn)
	together(64, func(i int) {
		want := usd(a, b, 1)
		if i%2 == 1 {
			want = usd(b, a, 1)
		}
		if _, err := insist(func() (Payment, error) { return s.Pay(t.Context(), fmt.Sprint("k", i), want) }); err != nil {
			t.Error(err)
		}
	})
	if x, y := balance(t, s, a), balance(t, s, b); x != 1000 || y != 1000 {
		t.Errorf("balances %d and %d, want 1000 each", x, y)
	}
	sound(t, s)
}
