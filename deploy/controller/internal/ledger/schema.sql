-- The same text for SQLite and PostgreSQL. Times are Unix milliseconds; null is unknown, never zero.

create table if not exists stops (
    id          text   primary key,           -- the pod's UID; of a drain that its pod outlived, UID/time
    namespace   text   not null,
    kind        text   not null,
    workload    text   not null,
    revision    text   not null,
    pod         text   not null,
    node        text   not null,
    pod_stopped bigint not null,
    outcome     text   not null,
    ended_ms    bigint not null,
    total_ms    bigint,
    cut         bigint,
    late        bigint,
    body        text   not null               -- the row as the API shows it
);
create index if not exists stops_by_time on stops (ended_ms, id);
-- has all that sums are made of: the rows themselves are large
create index if not exists stops_by_rollout on stops (namespace, kind, workload, revision, ended_ms, pod_stopped, outcome, total_ms, cut, late);
create index if not exists stops_by_workload on stops (namespace, workload, ended_ms);

-- Pods with an agent whose stop has no row yet.
create table if not exists pods (
    uid       text   primary key,
    namespace text   not null,
    kind      text   not null,
    workload  text   not null,
    gone_ms   bigint,                         -- when its end was noticed; null: it lives
    why       text   not null default '',
    body      text   not null
);
create index if not exists pods_by_workload on pods (namespace, kind, workload);

-- What metrics show: sums that only grow, so that they survive both the rows and this program.
create table if not exists totals (
    namespace text   not null,
    kind      text   not null,
    workload  text   not null,
    name      text   not null,
    value     bigint not null,
    last_ms   bigint not null,
    primary key (namespace, kind, workload, name)
);

create index if not exists totals_by_name on totals (name);

-- pruned_ms: rows that ended by then may have been removed.
create table if not exists marks (
    name  text   primary key,
    value bigint not null
);
