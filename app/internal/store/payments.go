package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
)

// Transfer is a wish to move money: Amount minor units of Currency.
type Transfer struct {
	From, To string
	Amount   int64
	Currency string
}

// Payment is a transfer that took place.
type Payment struct {
	Transfer
	ID, Key, Status string
	CreatedMs       int64
}

func (t Transfer) fingerprint() string {
	return fingerprint("pay", t.From, t.To, t.Amount, t.Currency)
}

// Paid returns the answer that was given under this key, if any: a payment, or the *RefusalError as the error. It fails with
// ErrKeyReused when the key stands for another transfer.
func (s *Store) Paid(ctx context.Context, key string, want Transfer) (p Payment, known bool, err error) {
	c, err := s.lookup(ctx, key, want.fingerprint())
	if err != nil || !c.again {
		return Payment{}, false, err
	}
	if c.no != nil {
		return Payment{}, true, c.no
	}
	p, err = s.Payment(ctx, c.ref)
	return p, true, err
}

// Pay moves the money once per key, however often and by however many it is called. The error is a *RefusalError when the
// answer is no, which is remembered too, ErrKeyReused, ErrBusy or ErrUnavailable.
func (s *Store) Pay(ctx context.Context, key string, want Transfer) (p Payment, err error) {
	var no *RefusalError
	err = s.tx(ctx, func(ctx context.Context, t *tx) (err error) {
		p, no, err = t.pay(ctx, key, want)
		return err
	})
	if err == nil && no != nil {
		err = no
	}
	return p, err
}

// pay is the whole payment inside one transaction: claim, check, book, answer.
func (t *tx) pay(ctx context.Context, key string, want Transfer) (Payment, *RefusalError, error) {
	c, err := t.claim(ctx, key, want.fingerprint())
	switch {
	case err != nil:
		return Payment{}, nil, err
	case c.again && c.no != nil:
		return Payment{}, c.no, nil
	case c.again:
		p, err := scanPayment(t.row(ctx, paymentQuery, c.ref))
		return p, nil, err
	}
	p, no, err := t.transfer(ctx, key, false, want)
	if err != nil {
		return Payment{}, nil, err
	}
	return p, no, t.settle(ctx, key, p.ID, no)
}

// transfer is a payment that no key protects: its caller knows that it happens once. house tells whether key is the
// house's own name for it (a batch item, an opening) or a caller's; the two may be the same and mean nothing to each other.
func (t *tx) transfer(ctx context.Context, key string, house bool, want Transfer) (p Payment, no *RefusalError, err error) {
	if no, err = t.check(ctx, want); err == nil && no == nil {
		p, err = t.book(ctx, key, house, want)
	}
	return p, no, err
}

// check locks both accounts, always in the same order, and looks whether the money can move.
func (t *tx) check(ctx context.Context, want Transfer) (*RefusalError, error) {
	found := map[string]int64{}
	var no *RefusalError
	rows, err := t.rows(ctx, `select id, kind, currency, balance from accounts where id in ($1, $2) order by id {lock}`, want.From, want.To)
	err = each(rows, err, func(r *sql.Rows) error {
		var id, kind, currency string
		var balance int64
		if err := r.Scan(&id, &kind, &currency, &balance); err != nil {
			return err
		}
		found[id] = balance
		switch {
		case currency != want.Currency:
			no = &RefusalError{"currency_mismatch", fmt.Sprintf("account %s is kept in %s, not %s", id, currency, want.Currency)}
		case kind == "equity":
			no = &RefusalError{"house_account", fmt.Sprintf("account %s is the house's own, nobody pays from or to it", id)}
		case id == want.From && balance < want.Amount:
			no = &RefusalError{"insufficient_funds", fmt.Sprintf("account %s does not hold %d", id, want.Amount)}
		case id == want.To && balance > maxBalance-want.Amount:
			no = &RefusalError{"balance_limit", fmt.Sprintf("account %s cannot hold %d more", id, want.Amount)}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("lock the accounts: %w", err)
	}
	for _, id := range []string{want.From, want.To} {
		if _, ok := found[id]; !ok {
			return &RefusalError{"unknown_account", fmt.Sprintf("there is no account %s", id)}, nil
		}
	}
	return no, nil
}

// book writes the payment, its two entries and both balances. The caller holds the locks.
func (t *tx) book(ctx context.Context, key string, house bool, want Transfer) (Payment, error) {
	id := "pay_" + rand.Text()
	if _, err := t.exec(ctx, `
		insert into payments (id, idem_key, house, from_account, to_account, amount, currency, status, created_ms, claimed_ms)
		values ($1, $2, $3, $4, $5, $6, $7, 'completed', {now}, (select created_ms from idempotency_keys where key = $2))`,
		id, key, house, want.From, want.To, want.Amount, want.Currency); err != nil {
		return Payment{}, fmt.Errorf("record the payment: %w", err)
	}
	if err := t.post(ctx, id, "debit", want.From, -want.Amount); err != nil {
		return Payment{}, err
	}
	if err := t.post(ctx, id, "credit", want.To, want.Amount); err != nil {
		return Payment{}, err
	}
	return scanPayment(t.row(ctx, paymentQuery, id))
}

// maxBalance leaves room below int64's end, where SQLite would go on in floating point.
const maxBalance = 1_000_000_000_000_000_000

// post adds one entry to the journal and to the account's balance.
func (t *tx) post(ctx context.Context, payment, side, account string, amount int64) error {
	if _, err := t.exec(ctx, `insert into entries (payment_id, side, account_id, amount, created_ms) values ($1, $2, $3, $4, {now})`,
		payment, side, account, amount); err != nil {
		return fmt.Errorf("post the %s: %w", side, err)
	}
	n, err := t.exec(ctx, `update accounts set balance = balance + $2 where id = $1 and balance between $3 and $4`,
		account, amount, -maxBalance-amount, maxBalance-amount)
	if err == nil && n != 1 {
		err = errors.New("there is no such account, or it cannot hold so much")
	}
	if err != nil {
		return fmt.Errorf("%s account %s: %w", side, account, err)
	}
	return nil
}

const paymentQuery = `select id, idem_key, from_account, to_account, amount, currency, status, created_ms from payments where id = $1`

// Payment reads one payment, or fails with ErrNotFound.
func (s *Store) Payment(ctx context.Context, id string) (Payment, error) {
	return scanPayment(s.row(ctx, paymentQuery, id))
}

func scanPayment(row scanner) (p Payment, err error) {
	err = row.Scan(&p.ID, &p.Key, &p.From, &p.To, &p.Amount, &p.Currency, &p.Status, &p.CreatedMs)
	if errors.Is(err, sql.ErrNoRows) {
		return p, ErrNotFound
	}
	if err != nil {
		return p, fmt.Errorf("read the payment: %w", err)
	}
	return p, nil
}

// PaymentsOf returns the ids of all payments made under a key that are whole: one debit and one credit of the right
// amount. More than one, or none for an acknowledged key, is a broken promise.
func (s *Store) PaymentsOf(ctx context.Context, key string) (ids []string, err error) {
	err = s.each(ctx, patience, func(r *sql.Rows) error {
		var id string
		err := r.Scan(&id)
		ids = append(ids, id)
		return err
	}, `
		select p.id from payments p
		join entries d on d.payment_id = p.id and d.side = 'debit' and d.account_id = p.from_account and d.amount = -p.amount
		join entries c on c.payment_id = p.id and c.side = 'credit' and c.account_id = p.to_account and c.amount = p.amount
		where p.idem_key = $1 and not p.house and p.status = 'completed'`, key)
	return ids, err
}

// Accounts the synthetic check uses. They are no customer's, and what is done to them is rolled back.
const (
	syntheticFrom = "synthetic-from"
	syntheticTo   = "synthetic-to"
)

var errRollback = errors.New("roll back")

// Synthetic makes a real payment between two reserved accounts, through every statement a payment takes, and rolls it
// back: the books never see it.
func (s *Store) Synthetic(ctx context.Context) error {
	err := s.tx(ctx, func(ctx context.Context, t *tx) error {
		for _, id := range []string{syntheticFrom, syntheticTo} {
			if _, err := t.exec(ctx, `insert into accounts (id, kind, currency, balance) values ($1, 'reserved', 'XTS', 1)
				on conflict (id) do nothing`, id); err != nil {
				return fmt.Errorf("open a reserved account: %w", err)
			}
		}
		_, no, err := t.pay(ctx, "synthetic/"+rand.Text(), Transfer{syntheticFrom, syntheticTo, 1, "XTS"})
		if err == nil && no != nil {
			err = no
		}
		if err != nil {
			return fmt.Errorf("test payment: %w", err)
		}
		return errRollback
	})
	if errors.Is(err, errRollback) {
		return nil
	}
	return err
}

// equity is where opening balances come from. It is the only account that may be below zero, so that all balances
// always sum up to nothing.
const equity = "equity"

// Seed opens accounts acct-0000… with balance each and items item-0000… with stock each, once.
func (s *Store) Seed(ctx context.Context, accounts int, balance int64, items int, stock int64) error {
	err := s.tx(ctx, func(ctx context.Context, t *tx) error {
		if _, err := t.exec(ctx, `insert into accounts (id, kind, currency) values ($1, 'equity', 'USD') on conflict (id) do nothing`, equity); err != nil {
			return err
		}
		for i := range accounts {
			id := fmt.Sprintf("acct-%04d", i)
			n, err := t.exec(ctx, `insert into accounts (id, kind, currency) values ($1, 'customer', 'USD') on conflict (id) do nothing`, id)
			if err != nil {
				return err
			}
			if n == 0 {
				continue
			}
			if _, err := t.book(ctx, "opening/"+id, true, Transfer{equity, id, balance, "USD"}); err != nil {
				return err
			}
		}
		for i := range items {
			if _, err := t.exec(ctx, `insert into items (id, initial, stock) values ($1, $2, $2) on conflict (id) do nothing`,
				fmt.Sprintf("item-%04d", i), stock); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("seed the store: %w", err)
	}
	return nil
}
