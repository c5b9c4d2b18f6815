package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"
)

func (s *database) Saw(ctx context.Context, p Pod) error {
	body, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return s.tx(ctx, func(t tx) error {
		_, err := t.exec(`insert into pods (uid, namespace, kind, workload, body) values ($1, $2, $3, $4, $5)
			on conflict (uid) do update set kind = excluded.kind, workload = excluded.workload, body = excluded.body, gone_ms = null, why = ''`,
			p.UID, p.Namespace, p.Workload.Kind, p.Workload.Name, string(body))
		return err
	})
}

func (s *database) Gone(ctx context.Context, p Pod, why string, at time.Time) error {
	body, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return s.tx(ctx, func(t tx) error {
		_, err := t.exec(`insert into pods (uid, namespace, kind, workload, gone_ms, why, body) values ($1, $2, $3, $4, $5, $6, $7)
			on conflict (uid) do update set body = excluded.body, why = excluded.why, gone_ms = coalesce(pods.gone_ms, excluded.gone_ms)`,
			p.UID, p.Namespace, p.Workload.Kind, p.Workload.Name, at.UnixMilli(), why, string(body))
		return err
	})
}

func (s *database) Forget(ctx context.Context, uid string) error {
	return s.tx(ctx, func(t tx) error {
		_, err := t.exec("delete from pods where uid = $1", uid)
		return err
	})
}

func (s *database) Pods(ctx context.Context) (live []Pod, err error) {
	err = s.each(ctx, func(r *sql.Rows) error {
		var body string
		var p Pod
		if err := r.Scan(&body); err != nil {
			return err
		}
		err := json.Unmarshal([]byte(body), &p)
		live = append(live, p)
		return err
	}, "select body from pods where gone_ms is null order by uid")
	return live, err
}

func (s *database) Lost(ctx context.Context, before time.Time) (all []*Stop, err error) {
	err = s.each(ctx, func(r *sql.Rows) error {
		var body, why string
		var at int64
		var p Pod
		if err := r.Scan(&body, &why, &at); err != nil {
			return err
		}
		err := json.Unmarshal([]byte(body), &p)
		all = append(all, lost(p, why, time.UnixMilli(at)))
		return err
	}, "select body, why, gone_ms from pods where gone_ms <= $1 order by gone_ms, uid", before.UnixMilli())
	return all, err
}

func (s *database) Add(ctx context.Context, stop *Stop) (added bool, err error) {
	body, err := json.Marshal(stop)
	if err != nil {
		return false, err
	}
	err = s.tx(ctx, func(t tx) error {
		if added, err = t.insert(stop, string(body)); err != nil {
			return err
		}
		if stop.PodStopped {
			if _, err := t.exec("delete from pods where uid = $1", stop.UID); err != nil {
				return err
			}
		}
		if !added || !stop.PodStopped {
			return nil
		}
		return t.count(stop, s.limits.Workloads)
	})
	return added, err
}

func (t tx) insert(s *Stop, body string) (bool, error) {
	if s.old { // it may have been removed, and counted, long ago
		var pruned int64
		err := t.QueryRowContext(t.ctx, "select coalesce(max(value), 0) from marks where name = 'pruned_ms'").Scan(&pruned)
		if err != nil || s.EndedAt.UnixMilli() <= pruned {
			return false, err
		}
	}
	stopped := 0
	if s.PodStopped {
		stopped = 1
	}
	n, err := t.exec(`insert into stops (id, namespace, kind, workload, revision, pod, node, pod_stopped, outcome, ended_ms, total_ms, cut, late, body)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
		on conflict (id) do update set outcome = excluded.outcome, ended_ms = excluded.ended_ms, total_ms = excluded.total_ms,
			cut = excluded.cut, late = excluded.late, body = excluded.body
		where stops.outcome = 'unknown' and excluded.outcome <> 'unknown'`,
		s.ID, s.Namespace, s.Workload.Kind, s.Workload.Name, s.Revision, s.Name, s.Node, stopped, s.Outcome,
		s.EndedAt.UnixMilli(), s.TotalMS, s.Cut, s.Late, body)
	return n > 0, err
}

// surplus are the rows that are too old ($1) or too many ($2).
const surplus = ` from stops where ended_ms < $1
	or (ended_ms, id) <= (select ended_ms, id from stops order by ended_ms desc, id desc limit 1 offset $2)`

// Prune removes rows that are too old or too many, and sums of workloads that have no pod and have not stopped for as long.
func (s *database) Prune(ctx context.Context, now time.Time) error {
	oldest := now.Add(-s.limits.Age).UnixMilli()
	return s.tx(ctx, func(t tx) error {
		var mark int64
		err := t.QueryRowContext(t.ctx, words(t.sqlite, "select coalesce(max(ended_ms), 0)"+surplus), oldest, s.limits.Rows).Scan(&mark)
		if err != nil {
			return err
		}
		if _, err := t.exec("delete"+surplus, oldest, s.limits.Rows); err != nil {
			return err
		}
		if _, err := t.exec(`delete from totals where last_ms < $1
			and not exists (select 1 from pods p where p.namespace = totals.namespace and p.kind = totals.kind and p.workload = totals.workload)`, oldest); err != nil {
			return err
		}
		_, err = t.exec(`insert into marks (name, value) values ('pruned_ms', $1)
			on conflict (name) do update set value = case when excluded.value > marks.value then excluded.value else marks.value end`, mark)
		return err
	})
}
