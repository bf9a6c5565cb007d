create schema rapport;

-- One row per ordering key: a contact, or an entity of events without a contact.
create table rapport.key (
    id uuid primary key,
    survivor uuid,
    parked boolean not null default false
);
create index key_parked on rapport.key (id) where parked;

create table rapport.position (
    stream text not null,
    partition integer not null,
    epoch integer not null default 1,
    number bigint not null default 0,
    kafka_offset bigint not null default 0,
    stopped text,
    resume boolean not null default false,
    last_source text,
    last_id text,
    primary key (stream, partition)
) with (fillfactor = 10);

create table rapport.batch_log (
    stream text not null,
    partition integer not null,
    epoch integer not null,
    first_number bigint not null,
    last_number bigint not null,
    applied integer not null,
    skipped integer not null,
    parked integer not null,
    attempts integer not null,
    worker text not null,
    started_at timestamptz not null,
    committed_at timestamptz not null default clock_timestamp()
) partition by range (committed_at);
create index batch_log_range on rapport.batch_log (stream, partition, last_number);

-- Rows are never updated nor deleted one by one; they leave with their partition.
create table rapport.outbox (
    number bigint generated always as identity (cache 1),
    xid xid8 not null default pg_current_xact_id(),
    written_at timestamptz not null default clock_timestamp(),
    event_id uuid not null,
    key uuid not null,
    hash bigint not null,
    contacts uuid[],
    type text not null,
    occurred_at timestamptz not null,
    body text not null,
    trace text,
    cause_id uuid,
    cause_hash bigint,
    causal text not null default ''
) partition by range (written_at);
create index outbox_xid on rapport.outbox (xid);
create index outbox_event on rapport.outbox (event_id);
create index outbox_cause on rapport.outbox (cause_id);

create table rapport.tick (
    number bigint primary key,
    snapshot text not null,
    system_identifier text not null,
    timeline integer not null,
    epoch integer not null,
    partitions integer not null,
    before bigint[] not null,
    after bigint[] not null,
    token bigint not null,
    holder uuid not null,
    cut_at timestamptz not null default clock_timestamp()
);

create table rapport.relay_progress (
    singleton boolean primary key default true check (singleton),
    tick bigint not null default 0,
    acknowledged bigint[] not null default '{}'
);
insert into rapport.relay_progress default values;

create table rapport.lease (
    name text primary key,
    holder uuid not null,
    instance text not null,
    token bigint not null default 1,
    beat bigint not null default 0
);

create table rapport.parked_event (
    id bigint generated always as identity primary key,
    stream text not null,
    partition integer not null,
    epoch integer not null,
    number bigint not null,
    kafka_offset bigint not null,
    event_id uuid not null,
    type text not null,
    contacts uuid[] not null,
    cause_id uuid,
    headers jsonb not null,
    value bytea,
    reason text not null,
    error text,
    attempts integer not null,
    trace text,
    first_failed_at timestamptz not null,
    parked_at timestamptz not null default clock_timestamp(),
    unique (stream, partition, epoch, number)
);
create index parked_event_id on rapport.parked_event (event_id);
create index parked_event_contacts on rapport.parked_event using gin (contacts);

create table rapport.rejected_record (
    id bigint generated always as identity primary key,
    topic text not null,
    partition integer not null,
    kafka_offset bigint not null,
    key bytea,
    value bytea,
    headers jsonb not null,
    reason text not null,
    field text,
    source text,
    source_id text,
    rejected_at timestamptz not null default clock_timestamp(),
    resubmitted_at timestamptz,
    unique (topic, partition, kafka_offset)
);

-- External events accepted, for ever.
create table rapport.inbox (
    source text not null,
    id text not null,
    body_hash bytea not null,
    event_id uuid not null,
    accepted_at timestamptz not null default clock_timestamp(),
    primary key (source, id)
);
create index inbox_event on rapport.inbox (event_id);

create table rapport.timer (
    id bigint generated always as identity primary key,
    kind text not null,
    key text not null,
    contact_id uuid not null,
    due_at timestamptz not null,
    payload jsonb not null default '{}',
    unique (kind, key)
);
create index timer_due on rapport.timer (due_at, id);

create table rapport.clock (
    singleton boolean primary key default true check (singleton),
    now timestamptz not null,
    fire_until timestamptz not null
);

create table rapport.audit (
    id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    actor text not null,
    action text not null,
    subject text not null,
    outcome text not null,
    details jsonb not null default '{}'
);

-- Day partitions of outbox and batch_log, by the database's clock; the relay's leader keeps some
-- days ahead. No default partition: it would make later attachments scan and lock it.
create function rapport.ensure_partitions(days_ahead integer) returns void language plpgsql as $$
declare
    day date;
    parent text;
begin
    foreach parent in array array['outbox', 'batch_log'] loop
        for day in
            select d::date from generate_series(
                (clock_timestamp() at time zone 'UTC')::date - 1,
                (clock_timestamp() at time zone 'UTC')::date + days_ahead, interval '1 day') d
        loop
            if to_regclass(format('rapport.%I', parent || to_char(day, '_YYYYMMDD'))) is null then
                execute format(
                    'create table rapport.%I partition of rapport.%I for values from (%L) to (%L)',
                    parent || to_char(day, '_YYYYMMDD'), parent,
                    day::text || ' 00:00:00+00', (day + 1)::text || ' 00:00:00+00');
            end if;
        end loop;
    end loop;
end $$;
select rapport.ensure_partitions(7);

-- Asked many times a second, over every partition: one plan, made once a session.
create function rapport.has_new_rows(since xid8, running xid8[]) returns boolean
language plpgsql stable set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
begin
    return exists (select from rapport.outbox where xid >= since)
        or exists (select from rapport.outbox where xid = any(running));
end $$;
