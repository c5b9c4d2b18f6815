-- +goose Up
-- house: idem_key is the house's own name for it (a batch item, an opening), no caller's key.
-- claimed_ms: when the key was claimed that the payment was made under; the life of a key counts from there.
-- lease_ms: how long a lease was when it was written: more than that to go means that the clock has been put back.
alter table payments add column house boolean not null default false;
alter table payments add column claimed_ms bigint;
alter table batches add column lease_ms bigint not null default 10000;
alter table leases add column lease_ms bigint not null default 10000;
