-- Writes purchases of members that owe nothing and whose refunds have not come first: earning, lots,
-- journal, lines. Leaves the others alone and names them. Nothing of a size that the planner cannot
-- know is joined: each part reads the one before it, and `debt` and `waiting_refund` are all but empty.
with given as materialized (
    select * from unnest(
        $1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::integer[], $6::bigint[],
        $7::text[], $8::timestamptz[], $9::timestamptz[], $10::timestamptz[]
    ) as g(purchase_id, contact_id, event_id, occurred_at, version, points,
           shares, active_from, expires_at, enrolled_at)
), odd as materialized (
    select contact_id from debt where contact_id in (select contact_id from given)
    union
    select contact_id from given where purchase_id in (select purchase_id from waiting_refund)
), usual as materialized (
    select * from given where contact_id not in (select contact_id from odd)
), enrolled as (
    insert into member (contact_id, enrolled_at)
    select contact_id, min(enrolled_at) from usual group by contact_id
    on conflict do nothing
    returning contact_id
), added as (
    insert into earning (purchase_id, contact_id, event_id, occurred_at, programme_version, points,
        shares, active_from, expires_at)
    select purchase_id, contact_id, event_id, occurred_at, version, points,
        shares::jsonb, active_from, expires_at
    from usual
    on conflict do nothing
    returning *
), credit as materialized (
    select nextval('ledger_id') as journal_id, active_from <= $11 as active, * from added
    where points > 0
), issued as materialized (
    select nextval('ledger_id') as lot_id, c.journal_id, c.contact_id, c.purchase_id, c.active_from,
        c.expires_at, c.active, s.line, s.net_minor, s.points
    from credit c
    cross join lateral jsonb_to_recordset(c.shares) as s(line text, net_minor bigint, points bigint)
    where s.points > 0
), lots as (
    insert into lot (id, contact_id, purchase_id, line, net_minor, points, remaining,
        active_from, expires_at, active)
    select lot_id, contact_id, purchase_id, line, net_minor, points, points,
        active_from, expires_at, active
    from issued
), journals as (
    insert into journal (id, contact_id, source_event, rule, leg, purchase_id, booked_at)
    select journal_id, contact_id, event_id, 'purchase', 'issue', purchase_id, $11 from credit
), lines as (
    insert into journal_line (journal_id, account, contact_id, lot_id, points)
    select i.journal_id, side.account, side.contact_id, i.lot_id, side.points
    from issued i
    cross join lateral (values
        ('issued', null::uuid, -i.points),
        (case when i.active then 'active' else 'pending' end, i.contact_id, i.points)
    ) as side(account, contact_id, points)
)
select
    (select array_agg(purchase_id) from added) as added,
    (select array_agg(contact_id) from enrolled) as enrolled,
    (select array_agg(contact_id) from odd) as odd
