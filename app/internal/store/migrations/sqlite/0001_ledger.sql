-- +goose Up
-- Money is in minor units. Times are Unix milliseconds of the database's clock.
-- Entries are the journal: append-only, and the sum over every payment is zero. Balances are derived from them.

create table accounts (
    id       text   primary key,
    kind     text   not null check (kind in ('customer', 'equity', 'reserved')),
    currency text   not null,
    balance  bigint not null default 0,
    constraint no_overdraft check (kind = 'equity' or balance >= 0)
);

create table payments (
    id           text   primary key,
    idem_key     text   not null,
    from_account text   not null,
    to_account   text   not null,
    amount       bigint not null check (amount > 0),
    currency     text   not null,
    status       text   not null check (status in ('completed', 'reversed')),
    created_ms   bigint not null
);
create index payments_by_key on payments (idem_key);
create index payments_by_time on payments (created_ms);

create table entries (
    payment_id text   not null,
    side       text   not null check (side in ('debit', 'credit', 'reversal')),
    account_id text   not null,
    amount     bigint not null,
    created_ms bigint not null,
    primary key (payment_id, side)
);
create index entries_by_account on entries (account_id);

create table idempotency_keys (
    key         text   primary key,
    fingerprint text   not null,
    created_ms  bigint not null,
    expires_ms  bigint not null,
    settled_ms  bigint,                    -- null: claimed, and nothing came of it
    ref         text   not null default '', -- what the call made
    code        text   not null default '', -- why it was refused, for good
    message     text   not null default ''
);
create index idempotency_keys_by_expiry on idempotency_keys (expires_ms);

create table items (
    id      text   primary key,
    initial bigint not null,
    stock   bigint not null,
    constraint no_oversell check (stock >= 0)
);

create table reservations (
    id         text   primary key,
    idem_key   text   not null,
    item_id    text   not null,
    quantity   bigint not null check (quantity > 0),
    stock_left bigint not null,
    created_ms bigint not null
);
create index reservations_by_item on reservations (item_id);

create table batches (
    id             text   primary key,
    status         text   not null check (status in ('pending', 'running', 'completed')),
    total          bigint not null,
    position       bigint not null default 0,
    failed         bigint not null default 0,
    owner          text   not null default '',
    fence          bigint not null default 0,
    lease_until_ms bigint not null default 0,
    created_ms     bigint not null,
    updated_ms     bigint not null
);

create table batch_items (
    batch_id     text   not null,
    position     bigint not null,
    from_account text   not null,
    to_account   text   not null,
    amount       bigint not null,
    currency     text   not null,
    code         text   not null default '',
    primary key (batch_id, position)
);

create table leases (
    name     text   primary key,
    owner    text   not null,
    fence    bigint not null,
    until_ms bigint not null
);

-- When each replica was last known to be alive, and whether it said goodbye.
create table marks (
    replica text    primary key,
    at_ms   bigint  not null,
    clean   boolean not null,
    stop_ms bigint  not null -- how long its last orderly stop took
);

-- Inconsistencies nobody could repair, told once.
create table alerts (
    kind       text   not null,
    subject    text   not null,
    created_ms bigint not null,
    primary key (kind, subject)
);

create table audit_log (
    id      integer primary key autoincrement,
    at_ms   bigint not null,
    kind    text   not null,
    subject text   not null,
    action  text   not null,
    detail  text   not null
);

-- +goose StatementBegin
create trigger audit_log_no_update before update on audit_log
begin select raise(abort, 'the audit log is append-only'); end;
-- +goose StatementEnd
-- +goose StatementBegin
create trigger audit_log_no_delete before delete on audit_log
begin select raise(abort, 'the audit log is append-only'); end;
-- +goose StatementEnd
