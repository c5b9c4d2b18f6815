package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
)

// Reservation is stock that was set aside.
type Reservation struct {
	ID, Item            string
	Quantity, StockLeft int64
}

// Reserve takes quantity from the item's stock, once per key. The check and the change are one statement, so no number of
// concurrent callers can take more than there is. Errors as for Pay.
func (s *Store) Reserve(ctx context.Context, key, item string, quantity int64) (r Reservation, err error) {
	var no *RefusalError
	err = s.tx(ctx, func(ctx context.Context, t *tx) (err error) {
		r, no, err = t.reserve(ctx, key, item, quantity)
		return err
	})
	if err == nil && no != nil {
		err = no
	}
	return r, err
}

func (t *tx) reserve(ctx context.Context, key, item string, quantity int64) (Reservation, *RefusalError, error) {
	c, err := t.claim(ctx, key, fingerprint("reserve", item, quantity))
	switch {
	case err != nil:
		return Reservation{}, nil, err
	case c.again && c.no != nil:
		return Reservation{}, c.no, nil
	case c.again:
		r := Reservation{ID: c.ref}
		err := t.row(ctx, `select item_id, quantity, stock_left from reservations where id = $1`, c.ref).Scan(&r.Item, &r.Quantity, &r.StockLeft)
		return r, nil, err
	}
	r := Reservation{ID: "res_" + rand.Text(), Item: item, Quantity: quantity}
	err = t.row(ctx, `update items set stock = stock - $2 where id = $1 and stock >= $2 returning stock`, item, quantity).Scan(&r.StockLeft)
	if errors.Is(err, sql.ErrNoRows) {
		no, err := t.whyNot(ctx, item, quantity)
		if err != nil {
			return Reservation{}, nil, err
		}
		return Reservation{}, no, t.settle(ctx, key, "", no)
	}
	if err != nil {
		return Reservation{}, nil, fmt.Errorf("take from the stock: %w", err)
	}
	if _, err := t.exec(ctx, `insert into reservations (id, idem_key, item_id, quantity, stock_left, created_ms) values ($1, $2, $3, $4, $5, {now})`,
		r.ID, key, item, quantity, r.StockLeft); err != nil {
		return Reservation{}, nil, fmt.Errorf("record the reservation: %w", err)
	}
	return r, nil, t.settle(ctx, key, r.ID, nil)
}

func (t *tx) whyNot(ctx context.Context, item string, quantity int64) (*RefusalError, error) {
	var stock int64
	switch err := t.row(ctx, `select stock from items where id = $1`, item).Scan(&stock); {
	case errors.Is(err, sql.ErrNoRows):
		return &RefusalError{"unknown_item", "there is no item " + item}, nil
	case err != nil:
		return nil, err
	default:
		return &RefusalError{"insufficient_stock", fmt.Sprintf("item %s has %d left, not %d", item, stock, quantity)}, nil
	}
}
