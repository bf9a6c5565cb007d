-- Writes what books changed. Lots and journals bring their ids; a lot is either new or changed.
with lots as (
    insert into lot (id, contact_id, purchase_id, line, net_minor, points, active_from, expires_at,
        remaining, active, refunded_minor, clawed, expired, held)
    select * from unnest(
        $1::bigint[], $2::uuid[], $3::uuid[], $4::text[], $5::bigint[], $6::bigint[],
        $7::timestamptz[], $8::timestamptz[], $9::bigint[], $10::boolean[], $11::bigint[],
        $12::bigint[], $13::bigint[], $28::bigint[])
    on conflict (purchase_id, line) do update set
        contact_id = excluded.contact_id,
        points = excluded.points,
        remaining = excluded.remaining,
        active = excluded.active,
        refunded_minor = excluded.refunded_minor,
        clawed = excluded.clawed,
        expired = excluded.expired,
        held = excluded.held
), journals as (
    insert into journal (id, contact_id, source_event, rule, leg, purchase_id, booked_at)
    select *, $27::timestamptz from unnest(
        $14::bigint[], $15::uuid[], $16::uuid[], $17::text[], $18::text[], $19::uuid[])
), lines as (
    insert into journal_line (journal_id, account, contact_id, lot_id, points)
    select * from unnest($20::bigint[], $21::text[], $22::uuid[], $23::bigint[], $24::bigint[])
), settled as (
    delete from debt where contact_id in (
        select contact_id from unnest($25::uuid[], $26::bigint[]) as d(contact_id, points)
        where points = 0)
)
insert into debt (contact_id, points)
select * from unnest($25::uuid[], $26::bigint[]) as d(contact_id, points) where points > 0
on conflict (contact_id) do update set points = excluded.points
