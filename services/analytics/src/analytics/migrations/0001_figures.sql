-- Parameters are data with a version; the highest version counts.
create table reporting (
    version integer primary key,
    zone text not null,
    currency text not null,
    decided_at timestamptz not null default clock_timestamp()
);
insert into reporting (version, zone, currency) values (1, 'Europe/Prague', 'USD');

-- Minor units of the reporting currency for one minor unit of `currency`, from that day on.
create table exchange_rate (
    currency text not null,
    valid_from date not null,
    rate numeric not null check (rate > 0),
    primary key (currency, valid_from)
);

-- rule: {"all": [{"measure": m, "at_least": n, "at_most": n}, ...]}, either bound may be absent.
create table segment (
    code text not null,
    version integer not null,
    rule jsonb not null,
    decided_at timestamptz not null default clock_timestamp(),
    primary key (code, version)
);
insert into segment (code, version, rule)
values ('valued', 1, '{"all": [{"measure": "monetary_minor", "at_least": 10000}]}');
create view segment_in_force as
    select distinct on (code) * from segment order by code, version desc;

-- One row per event that counts; never updated. `contact_id` is the contact that the event named,
-- `alias` tells who that is today. `amount` is money in minor units of the reporting currency,
-- or points; `original_minor` and `currency` are as paid.
create table fact (
    event_id uuid primary key,
    kind text not null,
    contact_id uuid not null,
    occurred_at timestamptz not null,
    day date not null,
    subject_id uuid,
    amount bigint,
    original_minor bigint,
    currency text,
    details jsonb,
    recorded_at timestamptz not null
);
create unique index fact_purchase on fact (subject_id) where kind = 'purchase';
create index fact_refund on fact (subject_id) where kind = 'refund';
create index fact_recorded on fact (recorded_at);

create table alias (
    loser_id uuid primary key,
    survivor_id uuid not null
);
create index alias_survivor on alias (survivor_id);

-- A refund that came before its purchase; no fact yet, and no effect.
create table waiting_refund (
    event_id uuid primary key,
    purchase_id uuid not null,
    contact_id uuid not null,
    occurred_at timestamptz not null,
    original_minor bigint not null,
    currency text not null,
    received_at timestamptz not null
);
create index waiting_refund_purchase on waiting_refund (purchase_id);

-- Live figures: what the functions and views below give, kept up by the handlers.
create table profile (
    contact_id uuid primary key,
    kept_purchases integer not null,
    purchase_days integer not null,
    monetary_minor bigint not null,
    first_kept_on date,
    last_kept_on date,
    updated_at timestamptz not null
) with (fillfactor = 80);

create table kept_day (
    contact_id uuid not null,
    day date not null,
    purchases integer not null,
    primary key (contact_id, day)
) with (fillfactor = 90);

-- `partition` is that of the stream which brought the amounts: only the consumer that holds its
-- position writes these rows, so replicas neither wait for each other here nor deadlock.
create table revenue_day (
    day date not null,
    partition integer not null,
    purchases bigint not null,
    refunds bigint not null,
    gross_minor bigint not null,
    refunded_minor bigint not null,
    primary key (day, partition)
) with (fillfactor = 50);

create table segment_member (
    contact_id uuid not null,
    code text not null,
    entered_at timestamptz not null,
    primary key (contact_id, code)
);
create index segment_member_code on segment_member (code, contact_id);

-- `event_id` is that of the published event. `joined`: both halves of a merge were members.
create table segment_crossing (
    event_id uuid primary key,
    code text not null,
    version integer not null,
    contact_id uuid not null,
    direction text not null check (direction in ('entered', 'exited', 'joined')),
    crossed_at timestamptz not null
);
create index segment_crossing_contact on segment_crossing (contact_id);

-- A rule holds when every condition does; the same as domain/segment.py.
create function satisfies(rule jsonb, kept integer, days integer, monetary bigint)
returns boolean language sql immutable as $$
    select coalesce(bool_and(measured >= coalesce((condition ->> 'at_least')::bigint, measured)
        and measured <= coalesce((condition ->> 'at_most')::bigint, measured)), true)
    from jsonb_array_elements(rule -> 'all') condition,
        lateral (select case condition ->> 'measure' when 'kept_purchases' then kept
            when 'purchase_days' then days when 'monetary_minor' then monetary end) m (measured)
$$;

-- Purchases up to a day, with what refunds up to that day have left of them.
create function purchases_as_of(as_of date)
returns table (contact_id uuid, day date, amount_minor bigint, left_minor bigint, kept boolean)
language sql stable as $$
    select coalesce(a.survivor_id, p.contact_id), p.day, p.amount,
        p.amount - coalesce(r.amount, 0), p.original_minor > coalesce(r.original_minor, 0)
    from fact p
        left join alias a on a.loser_id = p.contact_id
        left join (
            select subject_id, sum(amount)::bigint as amount,
                sum(original_minor)::bigint as original_minor
            from fact where kind = 'refund' and fact.day <= as_of group by subject_id
        ) r on r.subject_id = p.subject_id
    where p.kind = 'purchase' and p.day <= as_of
$$;

-- 5 is best. The newest customers (first kept purchase less than 30 days old) are taken out first;
-- fewer than 25 others get no codes.
create function rfm_as_of(as_of date)
returns table (contact_id uuid, is_new boolean, code text, recency_days integer,
    frequency bigint, monetary_minor bigint)
language sql stable as $$
    with customer as (
        select contact_id, min(day) as first, max(day) as last, count(*) as frequency,
            sum(left_minor)::bigint as monetary_minor
        from purchases_as_of(as_of) where kept group by contact_id
    ), scored as (
        select contact_id, count(*) over () as ranked,
            ntile(5) over (order by last, first, contact_id) as r,
            ntile(5) over (order by frequency, first, contact_id) as f,
            ntile(5) over (order by monetary_minor, first, contact_id) as m
        from customer where as_of - first >= 30
    )
    select c.contact_id, s.contact_id is null,
        case when s.ranked >= 25 then concat(s.r, s.f, s.m) end,
        as_of - c.last, c.frequency, c.monetary_minor
    from customer c left join scored s using (contact_id)
$$;

create view rebuilt_kept_day as
    select contact_id, day, count(*)::integer as purchases
    from purchases_as_of('infinity') where kept group by contact_id, day;

create view rebuilt_revenue_day as
    select day, count(*) filter (where kind = 'purchase') as purchases,
        count(*) filter (where kind = 'refund') as refunds,
        coalesce(sum(amount) filter (where kind = 'purchase'), 0)::bigint as gross_minor,
        coalesce(sum(amount) filter (where kind = 'refund'), 0)::bigint as refunded_minor
    from fact where kind in ('purchase', 'refund') group by day;

create view rebuilt_profile as
    with known as (
        select distinct coalesce(a.survivor_id, f.contact_id) as contact_id
        from fact f left join alias a on a.loser_id = f.contact_id
        where f.kind in ('contact_registered', 'contact_merged', 'purchase')
    ), bought as (
        select contact_id, count(*) filter (where kept)::integer as kept_purchases,
            count(distinct day) filter (where kept)::integer as purchase_days,
            sum(left_minor)::bigint as monetary_minor,
            min(day) filter (where kept) as first_kept_on,
            max(day) filter (where kept) as last_kept_on
        from purchases_as_of('infinity') group by contact_id
    )
    select contact_id, coalesce(kept_purchases, 0) as kept_purchases,
        coalesce(purchase_days, 0) as purchase_days,
        coalesce(monetary_minor, 0)::bigint as monetary_minor, first_kept_on, last_kept_on
    from known left join bought using (contact_id);

create view rebuilt_member as
    select p.contact_id, s.code
    from rebuilt_profile p cross join segment_in_force s
    where satisfies(s.rule, p.kept_purchases, p.purchase_days, p.monetary_minor);
