package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// completePayment books the credit that is missing: the payment and its debit prove that it was meant.
func completePayment(ctx context.Context, t *tx, id string) (string, error) {
	p, err := scanPayment(t.row(ctx, paymentQuery, id))
	if err != nil {
		return "", err
	}
	if err := t.post(ctx, id, "credit", p.To, p.Amount); err != nil {
		return "", err
	}
	return fmt.Sprintf("credited %d to %s", p.Amount, p.To), nil
}

// reversePayment takes back money that nobody paid, if it is still there.
func reversePayment(ctx context.Context, t *tx, id string) (string, error) {
	p, err := scanPayment(t.row(ctx, paymentQuery, id))
	if err != nil {
		return "", err
	}
	var balance int64
	if err := t.row(ctx, `select balance from accounts where id = $1 {lock}`, p.To).Scan(&balance); err != nil {
		return "", err
	}
	if balance < p.Amount {
		return "", nil
	}
	if err := t.post(ctx, id, "reversal", p.To, -p.Amount); err != nil {
		return "", err
	}
	_, err = t.exec(ctx, `update payments set status = 'reversed' where id = $1`, id)
	return fmt.Sprintf("took %d back from %s", p.Amount, p.To), err
}

// rebuildBalance sets a balance to what the journal says. While any payment is half booked nothing is proved.
func rebuildBalance(ctx context.Context, t *tx, id string) (string, error) {
	var kind string
	if err := t.row(ctx, `select kind from accounts where id = $1 {lock}`, id).Scan(&kind); err != nil {
		return "", err
	}
	var sum, unbalanced int64
	if err := t.row(ctx, `select coalesce(sum(amount), 0) from entries where account_id = $1`, id).Scan(&sum); err != nil {
		return "", err
	}
	if err := t.row(ctx, `
		select count(*) from (
			select o.payment_id from entries mine join entries o on o.payment_id = mine.payment_id
			where mine.account_id = $1 group by o.payment_id having sum(o.amount) <> 0
				and max(case when o.side = 'reversal' then 1 else 0 end) = 0) as half`, id).Scan(&unbalanced); err != nil {
		return "", err
	}
	if unbalanced > 0 || (sum < 0 && kind != "equity") {
		return "", nil
	}
	_, err := t.exec(ctx, `update accounts set balance = $2 where id = $1`, id, sum)
	return fmt.Sprintf("set the balance to %d", sum), err
}

// rebuildStock sets a stock to what the reservations leave of it.
func rebuildStock(ctx context.Context, t *tx, id string) (string, error) {
	var left int64
	if err := t.row(ctx, `select initial from items where id = $1 {lock}`, id).Scan(&left); err != nil {
		return "", err
	}
	var taken int64
	if err := t.row(ctx, `select coalesce(sum(quantity), 0) from reservations where item_id = $1`, id).Scan(&taken); err != nil {
		return "", err
	}
	if left -= taken; left < 0 {
		return "", nil
	}
	_, err := t.exec(ctx, `update items set stock = $2 where id = $1`, id, left)
	return fmt.Sprintf("set the stock to %d", left), err
}

// settleClaim gives a key back, or the answer it should have had.
func settleClaim(ctx context.Context, t *tx, key string) (string, error) {
	var id string
	err := t.row(ctx, `select id from payments where idem_key = $1 and not house union all select id from reservations where idem_key = $1 limit 1`, key).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		_, err = t.exec(ctx, `delete from idempotency_keys where key = $1 and settled_ms is null`, key)
		return "nothing was done under it: freed", err
	}
	if err != nil {
		return "", err
	}
	return "answered with " + id, t.settle(ctx, key, id, nil)
}
