package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Total is one sum of a workload.
type Total struct {
	Namespace, Kind, Workload string
	Name                      string // all, stops:OUTCOME, le:MS, count, sum_ms, graced, grace_s, cut, late, unread:cut, unread:late
	Value                     int64
}

// others is where the stops of workloads are counted that are too many to have sums of their own.
const others = "other"

// bounds of the histogram of stop times, in milliseconds.
func bounds() []int64 {
	return []int64{1000, 2000, 5000, 10_000, 15_000, 20_000, 30_000, 60_000, 120_000, 300_000, 900_000, 3_600_000}
}

// increments are what one stop adds to its workload's sums.
func increments(s *Stop) map[string]int64 {
	outcome := s.Outcome
	if outcome != unknown && !slices.Contains(outcomes(), outcome) {
		outcome = others // of a later edition, or invented
	}
	add := map[string]int64{"all": 1, "stops:" + outcome: 1} // each workload has one "all"
	if s.TotalMS != nil {
		add["count"], add["sum_ms"] = 1, *s.TotalMS
		if s.GraceS != nil {
			add["graced"], add["grace_s"] = 1, min(max(*s.GraceS, 0), most)
		}
		for _, most := range bounds() {
			if *s.TotalMS <= most {
				add[fmt.Sprintf("le:%d", most)] = 1
				break
			}
		}
	}
	for name, n := range map[string]*int64{"cut": s.Cut, "late": s.Late} {
		if n != nil {
			add[name] = *n
		} else {
			add["unread:"+name] = 1
		}
	}
	return add
}

// count adds a stop to the sums of its workload, or of the others when there are too many workloads already.
func (t tx) count(s *Stop, most int) error {
	namespace, kind, workload := s.Namespace, s.Workload.Kind, s.Workload.Name
	var has, all int
	err := t.QueryRowContext(t.ctx, words(t.sqlite, `select
		(select count(*) from totals where namespace = $1 and kind = $2 and workload = $3),
		(select count(*) from totals where name = 'all')`), namespace, kind, workload).Scan(&has, &all)
	if err != nil {
		return err
	}
	if has == 0 && all >= most {
		namespace, kind, workload = "", "", others
	}
	add := increments(s)
	args := []any{namespace, kind, workload, s.EndedAt.UnixMilli()}
	var rows []string
	for _, name := range slices.Sorted(maps.Keys(add)) {
		rows = append(rows, fmt.Sprintf("($1, $2, $3, $%d, $%d, $4)", len(args)+1, len(args)+2))
		args = append(args, name, add[name])
	}
	_, err = t.exec("insert into totals (namespace, kind, workload, name, value, last_ms) values "+strings.Join(rows, ", ")+`
		on conflict (namespace, kind, workload, name) do update set value = totals.value + excluded.value,
			last_ms = case when excluded.last_ms > totals.last_ms then excluded.last_ms else totals.last_ms end`, args...)
	return err
}

// Totals returns all sums, workload by workload. Workloads that have pods and have not stopped yet have a sum of zero: what is counted
// next is then seen to grow.
func (s *database) Totals(ctx context.Context) (all []Total, err error) {
	scan := func(r *sql.Rows) error {
		var t Total
		err := r.Scan(&t.Namespace, &t.Kind, &t.Workload, &t.Name, &t.Value)
		all = append(all, t)
		return err
	}
	err = s.each(ctx, scan, "select namespace, kind, workload, name, value from totals order by namespace, kind, workload, name")
	if err != nil {
		return nil, err
	}
	err = s.each(ctx, scan, `select distinct namespace, kind, workload, 'stops:clean', 0 from pods p
		where not exists (select 1 from totals t where t.namespace = p.namespace and t.kind = p.kind and t.workload = p.workload)
		order by namespace, kind, workload limit $1`, max(0, s.limits.Workloads-len(byWorkload(all))))
	return all, err
}
