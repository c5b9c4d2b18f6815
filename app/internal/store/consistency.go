package store

import (
	"context"
	"database/sql"
	"fmt"
)

// Finding is one inconsistency.
type Finding struct {
	Kind     string `json:"kind"`
	Severity string `json:"severity"` // "warning", "critical"
	Subject  string `json:"subject"`  // id of the payment, account, item or key
	Detail   string `json:"detail"`
	// Action is what was done: "repaired", "alerted" (it needs a person; told this once), "known" (told before),
	// or "found" in a dry run.
	Action string `json:"action"`
}

// CheckResult is the outcome of one kind of check.
type CheckResult struct {
	Kind, Severity string
	Findings       []Finding
	Err            error
}

// New counts the findings that no earlier run has told.
func (r CheckResult) New() (n int) {
	for _, f := range r.Findings {
		if f.Action != "known" {
			n++
		}
	}
	return n
}

// check finds one kind of damage. query yields subject and detail; repair, where there is one, undoes it when what
// happened can be proved from the journal, else it says no and a person has to look.
type check struct {
	kind, severity, query string
	repair                func(ctx context.Context, t *tx, subject string) (done string, err error)
}

// checks run in this order: half payments first, for a balance can only be judged by a journal that is whole.
var checks = []check{
	{"debit_without_credit", "critical", `
		select p.id as subject, p.from_account || ' paid ' || p.amount || ', ' || p.to_account || ' did not get it' as detail from payments p
		join entries d on d.payment_id = p.id and d.side = 'debit' and d.amount = -p.amount and d.account_id = p.from_account
		where p.status = 'completed' and not exists (select 1 from entries c where c.payment_id = p.id and c.side <> 'debit')`, completePayment},
	{"credit_without_debit", "critical", `
		select p.id as subject, p.to_account || ' got ' || p.amount || ', ' || p.from_account || ' did not pay it' as detail from payments p
		join entries c on c.payment_id = p.id and c.side = 'credit' and c.amount = p.amount and c.account_id = p.to_account
		where p.status = 'completed' and not exists (select 1 from entries d where d.payment_id = p.id and d.side <> 'credit')`, reversePayment},
	{"payment_without_entries", "critical", `
		select p.id as subject, 'nothing in the journal' as detail from payments p
		where not exists (select 1 from entries e where e.payment_id = p.id)`, nil},
	{"entry_without_payment", "critical", `
		select e.payment_id || '/' || e.side as subject, e.account_id || ' ' || e.amount as detail from entries e
		where not exists (select 1 from payments p where p.id = e.payment_id)`, nil},
	{"entry_mismatch", "critical", `
		select e.payment_id || '/' || e.side as subject, e.account_id || ' ' || e.amount || ' is not what the payment says' as detail from entries e
		join payments p on p.id = e.payment_id
		where not (e.side = 'debit' and e.account_id = p.from_account and e.amount = -p.amount
			or e.side = 'credit' and e.account_id = p.to_account and e.amount = p.amount
			or e.side = 'reversal' and p.status = 'reversed' and e.account_id = p.to_account and e.amount = -p.amount)`, nil},
	{"duplicate_payment", "critical", `
		select p.idem_key as subject, count(*) || ' payments within the life of one key' as detail from payments p
		where p.status = 'completed' and exists (select 1 from payments q
			where q.idem_key = p.idem_key and q.house = p.house and q.id <> p.id and q.status = 'completed' and (p.house
				or abs(coalesce(q.claimed_ms, q.created_ms) - coalesce(p.claimed_ms, p.created_ms)) < 86400000))
		group by p.idem_key, p.house`, nil}, // a life begins with the claim: the payment may have waited after it
	{"balance_drift", "critical", `
		select a.id as subject, 'balance ' || a.balance || ', journal ' || coalesce(sum(e.amount), 0) as detail from accounts a
		left join entries e on e.account_id = a.id where a.kind <> 'reserved'
		group by a.id, a.balance having a.balance <> coalesce(sum(e.amount), 0)`, rebuildBalance},
	{"ledger_sum", "critical", `
		select 'ledger' as subject, 'all entries together are ' || sum(amount) || ', not 0' as detail from entries having sum(amount) <> 0`, nil},
	{"stock_below_zero", "critical", `select id as subject, 'stock ' || stock as detail from items where stock < 0`, nil},
	{"stock_drift", "warning", `
		select i.id as subject, 'stock ' || i.stock || ', reservations leave ' || (i.initial - coalesce(sum(r.quantity), 0)) as detail from items i
		left join reservations r on r.item_id = i.id where i.stock >= 0
		group by i.id, i.stock, i.initial having i.stock <> i.initial - coalesce(sum(r.quantity), 0)`, rebuildStock},
	{"stale_claim", "warning", `
		select key as subject, 'claimed ' || ({now} - created_ms) / 1000 || ' s ago, never settled' as detail from idempotency_keys
		where settled_ms is null and created_ms < {now} - 60000`, settleClaim},
}

// CheckKinds lists all kinds of damage that are looked for.
func CheckKinds() (kinds []string) {
	for _, c := range checks {
		kinds = append(kinds, c.kind)
	}
	return kinds
}

// Reconcile runs every check. What can be proved is repaired, the rest is alerted once; both are written to the audit
// log, each in the transaction that did it. A dry run only looks. One check that fails does not stop the others.
func (s *Store) Reconcile(ctx context.Context, dryRun bool) (results []CheckResult) {
	for _, c := range checks {
		r := CheckResult{Kind: c.kind, Severity: c.severity}
		r.Findings, r.Err = s.find(ctx, c)
		for i := range r.Findings {
			if f := &r.Findings[i]; !dryRun && r.Err == nil {
				f.Action, r.Err = s.treat(ctx, c, *f)
			}
		}
		results = append(results, r)
	}
	return results
}

// find is one statement, so it sees one state of the books: never a payment on its way.
func (s *Store) find(ctx context.Context, c check) (found []Finding, err error) {
	err = s.each(ctx, txTimeout, func(r *sql.Rows) error {
		f := Finding{Kind: c.kind, Severity: c.severity, Action: "found"}
		err := r.Scan(&f.Subject, &f.Detail)
		found = append(found, f)
		return err
	}, c.query)
	if err != nil {
		return nil, fmt.Errorf("check for %s: %w", c.kind, err)
	}
	return found, nil
}

// treat repairs or alerts one finding, if it is still there.
func (s *Store) treat(ctx context.Context, c check, f Finding) (action string, err error) {
	err = s.tx(ctx, func(ctx context.Context, t *tx) error {
		t.patience = txTimeout
		var still int
		if err := t.row(ctx, `select count(*) from (`+c.query+`) as found where subject = $1`, f.Subject).Scan(&still); err != nil {
			return err
		}
		if still == 0 {
			action = "known" // somebody was faster
			return nil
		}
		done := ""
		if c.repair != nil {
			if done, err = c.repair(ctx, t, f.Subject); err != nil {
				return err
			}
		}
		if action = "repaired"; done == "" {
			action, done = "alerted", f.Detail
			n, err := t.exec(ctx, `insert into alerts (kind, subject, created_ms) values ($1, $2, {now}) on conflict do nothing`, f.Kind, f.Subject)
			if err != nil || n == 0 {
				action = "known"
				return err
			}
		}
		_, err := t.exec(ctx, `insert into audit_log (at_ms, kind, subject, action, detail) values ({now}, $1, $2, $3, $4)`, f.Kind, f.Subject, action, done)
		return err
	})
	if err != nil {
		return "found", fmt.Errorf("treat %s of %s: %w", f.Kind, f.Subject, err)
	}
	return action, nil
}
