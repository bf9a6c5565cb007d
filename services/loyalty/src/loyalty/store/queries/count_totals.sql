with account as (
    select coalesce(sum(points) filter (where account = 'pending'), 0) as pending,
        coalesce(sum(points) filter (where account = 'active'), 0) as active,
        coalesce(sum(points) filter (where account = 'held'), 0) as held,
        coalesce(-sum(points) filter (where account = 'debt'), 0) as debt,
        coalesce(-sum(points) filter (where account = 'issued'), 0) as issued,
        coalesce(sum(points) filter (where account = 'expired'), 0) as expired,
        coalesce(sum(points) filter (where account = 'redeemed'), 0) as redeemed,
        count(*) as lines
    from journal_line
), closing as (
    select count(j.id) as journals,
        count(*) filter (where j.id is null or l.points is distinct from 0) as unbalanced
    from journal j
    full join (
        select journal_id, sum(points) as points from journal_line group by journal_id
    ) l on l.journal_id = j.id
), lots as (
    select count(*) filter (where not active and remaining > 0) as pending,
        count(*) filter (where active and remaining > 0) as active,
        coalesce(sum(remaining) filter (where not active), 0) as pending_points,
        coalesce(sum(remaining) filter (where active), 0) as active_points
    from lot
)
select jsonb_build_object(
    'members', (select count(*) from member where merged_into is null),
    'points', jsonb_build_object('pending', a.pending, 'active', a.active, 'held', a.held,
        'debt', a.debt),
    'programme', jsonb_build_object('issued', a.issued, 'redeemed', a.redeemed,
        'expired', a.expired),
    'lots', jsonb_build_object('pending', l.pending, 'active', l.active),
    'lot_points', jsonb_build_object('pending', l.pending_points, 'active', l.active_points),
    'owed', (select coalesce(sum(points), 0) from debt),
    'journals', c.journals,
    'journals_unbalanced', c.unbalanced,
    'lines', a.lines,
    'purchases', (select count(*) from earning),
    'refunds', (select count(*) from refund),
    'refunds_waiting', (select count(*) from waiting_refund)
) as totals
from account a, closing c, lots l
