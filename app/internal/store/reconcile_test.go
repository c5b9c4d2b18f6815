package store

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// damage breaks the books in one way. The statements see one good payment with the id $P of 100 from a to b.
var damage = map[string]struct {
	statements []string
	action     string
}{
	"debit_without_credit": {[]string{
		`delete from entries where payment_id = '$P' and side = 'credit'`,
		`update accounts set balance = balance - 100 where id = 'acct-0001'`,
	}, "repaired"},
	"credit_without_debit": {[]string{
		`delete from entries where payment_id = '$P' and side = 'debit'`,
		`update accounts set balance = balance + 100 where id = 'acct-0000'`,
	}, "repaired"},
	"payment_without_entries": {[]string{
		`delete from entries where payment_id = '$P'`,
		`update accounts set balance = 1000 where id in ('acct-0000', 'acct-0001')`,
	}, "alerted"},
	"entry_without_payment": {[]string{`delete from payments where id = '$P'`}, "alerted"},
	"entry_mismatch": {[]string{
		`update entries set account_id = 'acct-0002' where payment_id = '$P' and side = 'credit'`,
		`update accounts set balance = 1000 where id = 'acct-0001'`,
		`update accounts set balance = 1100 where id = 'acct-0002'`,
	}, "alerted"},
	"duplicate_payment": {[]string{
		`insert into payments (id, idem_key, from_account, to_account, amount, currency, status, created_ms) select 'twin', idem_key, from_account, to_account, amount, currency, status, created_ms from payments where id = '$P'`,
		`insert into entries select 'twin', side, account_id, amount, created_ms from entries where payment_id = '$P'`,
		`update accounts set balance = 800 where id = 'acct-0000'`,
		`update accounts set balance = 1200 where id = 'acct-0001'`,
	}, "alerted"},
	"balance_drift": {[]string{`update accounts set balance = balance + 7 where id = 'acct-0002'`}, "repaired"},
	"ledger_sum": {[]string{
		`update entries set amount = amount + 5 where payment_id = '$P' and side = 'credit'`,
		`update accounts set balance = balance + 5 where id = 'acct-0001'`,
	}, "alerted"},
	"stock_below_zero": {[]string{
		"$UNGUARD items no_oversell",
		`update items set stock = -3 where id = 'item-0000'`,
	}, "alerted"},
	"stock_drift": {[]string{`update items set stock = stock - 2 where id = 'item-0000'`}, "repaired"},
	"stale_claim": {[]string{
		`update idempotency_keys set settled_ms = null, ref = '', created_ms = created_ms - 600000 where key = 'k'`,
		`insert into idempotency_keys (key, fingerprint, created_ms, expires_ms) values ('dead', 'x', 1, 99999999999999)`,
	}, "repaired"},
}

// Each kind of damage is found, repaired where it can be proved what happened, and told once; the second run is quiet.
func testReconcile(t *testing.T, dsn string) {
	kinds := slices.Sorted(maps.Keys(damage))
	if want := slices.Sorted(slices.Values(CheckKinds())); !slices.Equal(kinds, want) {
		t.Fatalf("damage is tried for %v, checks exist for %v", kinds, want)
	}
	clean := open(t, dsn)
	_ = clean.Close()
	for _, kind := range kinds {
		d := damage[kind]
		t.Run(kind, func(t *testing.T) { reconcileOne(t, fresh(t, dsn), kind, d.statements, d.action) })
	}
}

func reconcileOne(t *testing.T, s *Store, kind string, statements []string, action string) {
	p, err := s.Pay(t.Context(), "k", usd(a, b, 100))
	if err != nil {
		t.Fatal(err)
	}
	s.harm(t, p.ID, statements)
	look := func(dry bool) (mine []Finding, fresh int) {
		for _, r := range s.Reconcile(t.Context(), dry) {
			if r.Err != nil {
				t.Errorf("%s: %v", r.Kind, r.Err)
			}
			fresh += r.New()
			if r.Kind == kind {
				mine = r.Findings
			}
		}
		return mine, fresh
	}
	if found, _ := look(true); len(found) == 0 || found[0].Action != "found" {
		t.Fatalf("a dry run found %v", found)
	}
	audit := s.number(t, `select count(*) from audit_log`)
	if audit != 0 {
		t.Errorf("a dry run wrote %d audit rows", audit)
	}
	found, n := look(false)
	if len(found) == 0 || found[0].Action != action {
		t.Fatalf("found %v, want it %s", found, action)
	}
	if rows := s.number(t, `select count(*) from audit_log`); rows != int64(n) {
		t.Errorf("%d audit rows for %d findings", rows, n)
	}
	if _, again := look(false); again != 0 {
		t.Errorf("the second run found %d", again)
	}
	if action == "repaired" {
		sound(t, s)
		if n := s.number(t, `select sum(balance) from accounts where kind <> 'reserved'`); n != 0 {
			t.Errorf("all balances together are %d, want 0", n)
		}
	}
	if kind == "stale_claim" {
		if q, err := s.Pay(t.Context(), "k", usd(a, b, 100)); err != nil || q.ID != p.ID {
			t.Errorf("the key no longer leads to its payment: %+v %v", q, err)
		}
	}
}

// fresh empties a migrated database: cheaper than a new one.
func fresh(t *testing.T, dsn string) *Store {
	t.Helper()
	s := open(t, dsn)
	if s.Name() == "postgres" {
		if _, err := s.db.ExecContext(t.Context(), `alter table audit_log disable trigger all`); err != nil {
			t.Fatal(err)
		}
	} else if _, err := s.db.ExecContext(t.Context(), `drop trigger audit_log_no_delete`); err != nil && s.number(t, `select count(*) from sqlite_master where name = 'audit_log_no_delete'`) != 0 {
		t.Fatal(err)
	}
	for _, table := range []string{"audit_log", "alerts", "entries", "payments", "accounts", "items", "reservations", "idempotency_keys"} {
		if _, err := s.db.ExecContext(t.Context(), "delete from "+table); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Seed(t.Context(), 4, 1000, 2, 10); err != nil {
		t.Fatal(err)
	}
	return s
}

// harm runs the statements on one connection, with the guards down where asked.
func (s *Store) harm(t *testing.T, payment string, statements []string) {
	t.Helper()
	conn, err := s.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, q := range statements {
		var table, constraint string
		if n, _ := fmt.Sscanf(q, "$UNGUARD %s %s", &table, &constraint); n == 2 {
			if q = "pragma ignore_check_constraints = 1"; s.Name() == "postgres" {
				q = fmt.Sprintf("alter table %s drop constraint if exists %s", table, constraint)
			}
		}
		if _, err := conn.ExecContext(t.Context(), strings.ReplaceAll(q, "$P", payment)); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
}
