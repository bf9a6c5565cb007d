-- A cap counts per member and local day; null means none. `hold_minutes`: how long points stay held.
alter table programme
    add column daily_cap integer check (daily_cap > 0),
    add column hold_minutes integer not null default 30 check (hold_minutes > 0);

alter table lot
    add column held bigint not null default 0 check (held >= 0),
    drop constraint lot_check,
    add constraint lot_check check (
        remaining + held + expired <= points and clawed <= points and refunded_minor <= net_minor);

create table redemption (
    id uuid primary key,
    contact_id uuid not null,
    points bigint not null check (points > 0),
    reference text,
    authorised_at timestamptz not null,
    held_until timestamptz not null,
    state text not null check (state in ('held', 'captured', 'released', 'reversed')),
    captured bigint not null check (captured between 0 and points)
);
create index redemption_contact on redemption (contact_id);

-- From which lots the points came, in the order in which they are spent.
create table redemption_lot (
    redemption_id uuid not null,
    number integer not null,
    purchase_id uuid not null,
    line text not null,
    points bigint not null check (points > 0),
    captured bigint not null check (captured between 0 and points),
    primary key (redemption_id, number)
);

-- Lines that earn something, of purchases whose version has a cap; without a cap no row is written.
-- `points` is the share without the cap, `granted` what refunds and the cap leave of it.
create table capped_line (
    contact_id uuid not null,
    day date not null,
    purchase_id uuid not null,
    number integer not null,
    line text not null,
    occurred_at timestamptz not null,
    cap integer not null,
    net_minor bigint not null check (net_minor > 0),
    points bigint not null check (points > 0),
    active_from timestamptz not null,
    expires_at timestamptz,
    refunded_minor bigint not null check (refunded_minor between 0 and net_minor),
    granted bigint not null check (granted between 0 and points),
    primary key (purchase_id, line)
);
create index capped_line_day on capped_line (contact_id, day);

-- First answers to writes that named an Idempotency-Key.
create table idempotency (
    key text primary key,
    fingerprint bytea not null,
    contact_id uuid,
    status integer not null,
    headers jsonb not null,
    body text not null,
    answered_at timestamptz not null
);
