-- One sequence numbers lots and journals, so that bigint ids tell their order. No foreign keys: one
-- statement writes all sides, and /v1/totals counts what does not close.
create sequence ledger_id;

create table programme (
    version integer primary key,
    valid_from timestamptz not null,
    zone text not null,
    pending_days integer not null check (pending_days >= 0),
    points_per_unit integer not null check (points_per_unit >= 0),
    shortfall text not null check (shortfall in ('debt', 'absorb')),
    expiry_months integer check (expiry_months > 0)
);
insert into programme values (1, '1900-01-01 00:00+00', 'Europe/Prague', 14, 1, 'debt', null);

create table member (
    contact_id uuid primary key,
    enrolled_at timestamptz not null,
    merged_into uuid
);
create index member_merged_into on member (merged_into) where merged_into is not null;

-- One row for each purchase that was judged, also for those that earned nothing. `shares` is the
-- trace: eligible line, its net, its points. `contact_id` stays the one it came by.
create table earning (
    purchase_id uuid primary key,
    contact_id uuid not null,
    event_id uuid not null,
    occurred_at timestamptz not null,
    programme_version integer not null,
    points bigint not null,
    shares jsonb not null,
    active_from timestamptz not null,
    expires_at timestamptz
);

create table lot (
    id bigint not null,
    contact_id uuid not null,
    purchase_id uuid not null,
    line text not null,
    net_minor bigint not null,
    points bigint not null check (points > 0),
    remaining bigint not null check (remaining >= 0),
    active_from timestamptz not null,
    expires_at timestamptz,
    active boolean not null,
    refunded_minor bigint not null default 0,
    clawed bigint not null default 0,
    expired bigint not null default 0,
    primary key (purchase_id, line),
    check (remaining + expired <= points and clawed <= points and refunded_minor <= net_minor)
);
create index lot_contact on lot (contact_id);

-- Append-only. (source_event, rule, leg) is the ledger's key.
create table journal (
    id bigint not null,
    contact_id uuid not null,
    source_event uuid not null,
    rule text not null,
    leg text not null,
    purchase_id uuid,
    booked_at timestamptz not null,
    primary key (contact_id, id),
    unique (source_event, rule, leg)
);

-- Append-only. `contact_id` is null on the accounts of the programme.
create table journal_line (
    journal_id bigint not null,
    account text not null,
    contact_id uuid,
    lot_id bigint,
    points bigint not null check (points <> 0)
);
create index journal_line_journal on journal_line (journal_id);

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% is append-only', tg_table_name;
end $$;
create trigger append_only before update or delete on journal
    for each statement execute function refuse_change();
create trigger append_only before update or delete on journal_line
    for each statement execute function refuse_change();

-- Only members that owe something have a row, so that the bulk of purchases looks into an empty table.
create table debt (
    contact_id uuid primary key,
    points bigint not null check (points > 0)
);

create table refund (
    refund_id uuid primary key,
    purchase_id uuid not null,
    event_id uuid not null,
    occurred_at timestamptz not null
);

-- Refunds that came before their purchase; a row leaves when the purchase arrives.
create table waiting_refund (
    arrival bigint generated always as identity,
    refund_id uuid primary key,
    purchase_id uuid not null,
    contact_id uuid not null,
    event_id uuid not null,
    occurred_at timestamptz not null,
    lines jsonb not null
);
create index waiting_refund_purchase on waiting_refund (purchase_id);
