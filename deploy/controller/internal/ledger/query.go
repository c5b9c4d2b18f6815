package ledger

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Query filters and pages. Zero values ask for everything.
type Query struct {
	ID, Namespace, Kind, Workload, Revision, Pod, Node string
	Outcomes                                           []string
	Since, Until                                       time.Time // ended at or after, before
	Stopped                                            *bool     // pod_stopped
	Limit                                              int       // at most this many
	After                                              string    // Next of the page before
}

// Page is a part of an answer, newest first.
type Page[T any] struct {
	Items []T
	Next  string // "": this was the last
}

// Rollout sums up the stops of one workload's pods of one revision: what a rollout replaces, and what was scaled down or evicted before.
type Rollout struct {
	Namespace string         `json:"namespace"`
	Workload  workloadName   `json:"workload"`
	Revision  string         `json:"revision"`
	First     Moment         `json:"first_ended_at"`
	Last      Moment         `json:"last_ended_at"`
	Stops     int64          `json:"stops"`
	Outcomes  map[string]int `json:"outcomes"`               // those that occurred; "other": of a later edition
	P50       *int64         `json:"total_ms_p50"`           // of the stops that have a total_ms; null: none has
	P95       *int64         `json:"total_ms_p95"`           // the same
	Max       *int64         `json:"total_ms_max"`           // the same
	Timed     int64          `json:"total_ms_known"`         // how many have one
	Cut       *int64         `json:"requests_cut"`           // of the stops that say it; null: none does
	CutOf     int64          `json:"requests_cut_known"`     // how many say it
	Late      *int64         `json:"arrivals_after_release"` // as requests_cut
	LateOf    int64          `json:"arrivals_after_release_known"`
}

type workloadName struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// errCursor is a page that no answer named.
var errCursor = errors.New("after: not what an answer gave as next")

// where builds the conditions of a query.
type where struct {
	parts []string
	args  []any
}

func (w *where) arg(value any) string {
	w.args = append(w.args, value)
	return fmt.Sprintf("$%d", len(w.args))
}

func (w *where) text() string {
	if len(w.parts) == 0 {
		return ""
	}
	return " where " + strings.Join(w.parts, " and ")
}

func conditions(q Query) *where {
	w := &where{}
	for column, value := range map[string]string{"id": q.ID, "namespace": q.Namespace, "kind": q.Kind, "workload": q.Workload, "revision": q.Revision, "pod": q.Pod, "node": q.Node} {
		if value != "" {
			w.parts = append(w.parts, column+" = "+w.arg(value))
		}
	}
	if len(q.Outcomes) > 0 {
		var all []string
		for _, one := range q.Outcomes {
			all = append(all, w.arg(one))
		}
		w.parts = append(w.parts, "outcome in ("+strings.Join(all, ", ")+")")
	}
	if !q.Since.IsZero() {
		w.parts = append(w.parts, "ended_ms >= "+w.arg(q.Since.UnixMilli()))
	}
	if !q.Until.IsZero() {
		w.parts = append(w.parts, "ended_ms < "+w.arg(q.Until.UnixMilli()))
	}
	if q.Stopped != nil {
		n := 0
		if *q.Stopped {
			n = 1
		}
		w.parts = append(w.parts, "pod_stopped = "+w.arg(n))
	}
	return w
}

// Drains returns rows as the API shows them.
func (s *database) Drains(ctx context.Context, q Query) (page Page[json.RawMessage], err error) {
	w := conditions(q)
	if q.After != "" {
		var at int64
		var id string
		if err := readCursor(q.After, &at, &id); err != nil {
			return page, err
		}
		w.parts = append(w.parts, "(ended_ms, id) < ("+w.arg(at)+", "+w.arg(id)+")")
	}
	var at int64
	var id, next string
	query := "select ended_ms, id, body from stops" + w.text() + " order by ended_ms desc, id desc limit " + w.arg(q.Limit+1)
	err = s.each(ctx, func(r *sql.Rows) error {
		if len(page.Items) == q.Limit {
			page.Next = next
			return nil
		}
		var body string
		err := r.Scan(&at, &id, &body)
		page.Items, next = append(page.Items, json.RawMessage(body)), cursor(at, id)
		return err
	}, query, w.args...)
	return page, err
}

// Rollouts sums up stops by workload and revision.
func (s *database) Rollouts(ctx context.Context, q Query) (page Page[Rollout], err error) {
	q.Stopped = new(true)
	w := conditions(q)
	having := ""
	if q.After != "" {
		var at int64
		var key [4]string
		if err := readCursor(q.After, &at, &key[0], &key[1], &key[2], &key[3]); err != nil {
			return page, err
		}
		having = fmt.Sprintf(" having (max(ended_ms), namespace, kind, workload, revision) < (%s, %s, %s, %s, %s)", w.arg(at), w.arg(key[0]), w.arg(key[1]), w.arg(key[2]), w.arg(key[3]))
	}
	names := append(outcomes(), unknown)
	var sums strings.Builder
	for _, name := range names {
		sums.WriteString(", sum(case when outcome = '" + name + "' then 1 else 0 end)")
	}
	const key = "namespace, kind, workload, revision"
	query := `with g as (
			select ` + key + `, max(ended_ms) newest from stops` + w.text() + ` group by ` + key + having + `
			order by newest desc, namespace desc, kind desc, workload desc, revision desc limit ` + w.arg(q.Limit+1) + `
		), r as (
			select ` + key + `, outcome, ended_ms, total_ms, cut, late,
				count(total_ms) over (partition by ` + key + `) timed,
				row_number() over (partition by ` + key + ` order by total_ms is null, total_ms) place
			from stops join g using (` + key + `)` + w.text() + `
		)
		select ` + key + `, min(ended_ms), max(ended_ms), count(*),
			min(case when place = (timed + 1) / 2 then total_ms end), min(case when place = (timed * 95 + 99) / 100 then total_ms end),
			max(total_ms), count(total_ms), cast(sum(cut) as bigint), count(cut), cast(sum(late) as bigint), count(late)` + sums.String() + `
		from r group by ` + key + ` order by max(ended_ms) desc, namespace desc, kind desc, workload desc, revision desc`
	next := ""
	err = s.each(ctx, func(r *sql.Rows) error {
		if len(page.Items) == q.Limit {
			page.Next = next
			return nil
		}
		var o Rollout
		var first, last int64
		of := make([]int, len(names))
		to := []any{&o.Namespace, &o.Workload.Kind, &o.Workload.Name, &o.Revision, &first, &last, &o.Stops, &o.P50, &o.P95, &o.Max, &o.Timed, &o.Cut, &o.CutOf, &o.Late, &o.LateOf}
		for i := range of {
			to = append(to, &of[i])
		}
		if err := r.Scan(to...); err != nil {
			return err
		}
		o.First, o.Last, o.Outcomes = Moment{time.UnixMilli(first)}, Moment{time.UnixMilli(last)}, byName(names, of, int(o.Stops))
		page.Items, next = append(page.Items, o), cursor(last, o.Namespace, o.Workload.Kind, o.Workload.Name, o.Revision)
		return nil
	}, query, w.args...)
	return page, err
}

// Sum is what all stops of a query add up to.
type Sum struct {
	Stops, Cut, CutOf, Late, LateOf int64
	Outcomes                        map[string]int64
}

// Sums adds up the stops of a query, not the page's alone.
func (s *database) Sums(ctx context.Context, q Query) (sum Sum, err error) {
	q.Stopped, q.After = new(true), ""
	w := conditions(q)
	sum.Outcomes = map[string]int64{}
	err = s.each(ctx, func(r *sql.Rows) error {
		var outcome string
		var n, cut, cutOf, late, lateOf int64
		if err := r.Scan(&outcome, &n, &cut, &cutOf, &late, &lateOf); err != nil {
			return err
		}
		sum.Outcomes[outcome] = n
		sum.Stops, sum.Cut, sum.CutOf, sum.Late, sum.LateOf = sum.Stops+n, sum.Cut+cut, sum.CutOf+cutOf, sum.Late+late, sum.LateOf+lateOf
		return nil
	}, `select outcome, count(*), cast(coalesce(sum(cut), 0) as bigint), count(cut), cast(coalesce(sum(late), 0) as bigint), count(late) from stops`+w.text()+` group by outcome`, w.args...)
	return sum, err
}

// byName leaves out outcomes that did not occur; those without a name are what is left of all.
func byName(names []string, of []int, all int) map[string]int {
	out := map[string]int{}
	for i, n := range of {
		if n > 0 {
			out[names[i]] = n
		}
		all -= n
	}
	if all > 0 {
		out[others] = all
	}
	return out
}

func cursor(parts ...any) string {
	text, _ := json.Marshal(parts) // numbers and strings always can be
	return base64.RawURLEncoding.EncodeToString(text)
}

func readCursor(text string, to ...any) error {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	var parts []json.RawMessage
	if err != nil || json.Unmarshal(raw, &parts) != nil || len(parts) != len(to) {
		return errCursor
	}
	for i := range to {
		if json.Unmarshal(parts[i], to[i]) != nil {
			return errCursor
		}
	}
	return nil
}
