"""Queries behind `/v1/metrics`; `first` and `last` are days in the programme's zone, both included.

Kept-based figures are judged as of a day: refunds up to that day count, later ones do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any
from uuid import UUID

from rapport.messaging.transaction import Tx

TODAY = "select ($1::timestamptz at time zone $2)::date"
FRESHNESS = "select max(recorded_at) from fact"
REVENUE = """
select {period} as {name}, sum(purchases)::bigint as purchases, sum(refunds)::bigint as refunds,
    sum(gross_minor)::bigint as gross_minor, sum(refunded_minor)::bigint as refunded_minor,
    sum(gross_minor - refunded_minor)::bigint as revenue_minor
from revenue_day where day between coalesce($1::date, '-infinity') and $2
group by 1 order by 1
"""
REVENUE_DAILY = REVENUE.format(period="day", name="day")
REVENUE_MONTHLY = REVENUE.format(period="to_char(day, 'YYYY-MM')", name="month")
PURCHASES = """
select day, count(*) as purchases, count(*) filter (where kept) as kept,
    count(distinct contact_id) as contacts, sum(amount_minor)::bigint as gross_minor,
    sum(left_minor)::bigint as left_minor
from purchases_as_of($3::date) where day between coalesce($1::date, '-infinity') and $2
group by day order by day
"""
REPEAT_RATE = """
with kept as (
    select contact_id, day, min(day) over (partition by contact_id) as first
    from purchases_as_of($3::date) where kept
), customer as (
    select contact_id, first, count(*) filter (where day - first <= 365) as purchases
    from kept group by contact_id, first
)
select count(*) as customers, count(*) filter (where purchases >= 2) as repeaters
from customer
where $3::date - first >= 365 and first between coalesce($1::date, '-infinity') and $2
"""
RFM_CODES = """
select case when is_new then 'New' else code end as code, count(*) as customers,
    sum(monetary_minor)::bigint as monetary_minor
from rfm_as_of($1) group by 1 order by 1
"""
RFM_OF_CONTACT = """
select case when is_new then 'New' else code end as code, recency_days, frequency, monetary_minor
from rfm_as_of($1) where contact_id = $2
"""
# x, t_x and T of BG/NBD in days, and how many customers share them.
PURCHASE_PATTERNS = """
with customer as (
    select count(distinct day) - 1 as repeats, max(day) - min(day) as recency,
        $1::date - min(day) as age
    from purchases_as_of($1) where kept and ($2::uuid is null or contact_id = $2)
    group by contact_id
)
select repeats, recency, age, count(*) as customers from customer
group by repeats, recency, age order by repeats, recency, age
"""
MESSAGES = """
select day, case kind when 'message_sent' then 'sent' else 'suppressed' end as outcome,
    details ->> 'rule' as rule, details ->> 'channel' as channel, details ->> 'reason' as reason,
    count(*) as messages
from fact
where kind in ('message_sent', 'message_suppressed')
    and day between coalesce($1::date, '-infinity') and $2
group by 1, 2, 3, 4, 5 order by 1, 2, 3, 4, 5
"""
POINTS = """
select day, coalesce(sum(amount) filter (where kind = 'points_pending'), 0)::bigint as pending,
    coalesce(sum(amount) filter (where kind = 'points_awarded'), 0)::bigint as awarded,
    coalesce(sum(amount) filter (where kind = 'points_reversed'), 0)::bigint as reversed
from fact
where kind in ('points_pending', 'points_awarded', 'points_reversed')
    and day between coalesce($1::date, '-infinity') and $2
group by day order by day
"""
CROSSINGS = """
select code as segment, (crossed_at at time zone $3)::date as day,
    count(*) filter (where direction = 'entered') as entered,
    count(*) filter (where direction = 'exited') as exited,
    count(*) filter (where direction = 'joined') as joined
from segment_crossing
where (crossed_at at time zone $3)::date between coalesce($1::date, '-infinity') and $2
    and ($4::text is null or code = $4)
group by 1, 2 order by 1, 2
"""
FACTS_BY_KIND = "select kind, count(*) as facts from fact group by kind order by kind"
MONEY_TOTALS = """
select
    coalesce(sum(amount) filter (where kind = 'purchase'), 0)::bigint as revenue_gross_minor,
    coalesce(sum(amount) filter (where kind = 'refund'), 0)::bigint as refunded_minor,
    coalesce((select sum(gross_minor - refunded_minor) from revenue_day), 0)::bigint
        as live_revenue_minor,
    count(distinct coalesce(a.survivor_id, f.contact_id)) filter (where kind = 'purchase')
        as contacts_with_purchase,
    (select count(*) from waiting_refund) as waiting_refunds
from fact f left join alias a on a.loser_id = f.contact_id
where kind in ('purchase', 'refund')
"""
SEGMENT_TOTALS = """
select (select count(*) from segment_member) as segment_members,
    count(*) filter (where direction = 'entered') as segment_entered,
    count(*) filter (where direction = 'exited') as segment_exited,
    count(*) filter (where direction = 'joined') as segment_joined
from segment_crossing
"""

Row = dict[str, Any]


async def _rows(tx: Tx, sql: str, *args: object) -> list[Row]:
    return [dict(row) for row in await tx.fetch(sql, *args)]


async def find_today(tx: Tx, zone: str) -> date:
    """Return the programme's present day."""
    today: date = await tx.fetchval(TODAY, tx.now, zone)
    return today


async def find_last_recorded(tx: Tx) -> Any:  # noqa: ANN401  a column's value
    """Return when the newest fact was recorded; None without facts."""
    return await tx.fetchval(FRESHNESS)


async def list_revenue_by_day(tx: Tx, first: date | None, last: date) -> list[Row]:
    """Return revenue per day from the live figures; days without any are left out."""
    return await _rows(tx, REVENUE_DAILY, first, last)


async def list_revenue_by_month(tx: Tx, first: date | None, last: date) -> list[Row]:
    """Return revenue per calendar month from the live figures."""
    return await _rows(tx, REVENUE_MONTHLY, first, last)


async def list_purchases(tx: Tx, first: date | None, last: date, as_of: date) -> list[Row]:
    """Return purchases per day and how many are kept as of a day."""
    return await _rows(tx, PURCHASES, first, last, as_of)


async def find_repeat_rate(tx: Tx, first: date | None, last: date, as_of: date) -> Row:
    """Count customers by their first kept purchase, and those who came back within 365 days."""
    return (await _rows(tx, REPEAT_RATE, first, last, as_of))[0]


async def list_rfm_codes(tx: Tx, as_of: date) -> list[Row]:
    """Return customers per RFM code; the code is None when there are too few to rank."""
    return await _rows(tx, RFM_CODES, as_of)


async def find_rfm(tx: Tx, as_of: date, contact: UUID) -> Row | None:
    """Return one contact's RFM code; None without a kept purchase."""
    return next(iter(await _rows(tx, RFM_OF_CONTACT, as_of, contact)), None)


async def list_purchase_patterns(
    tx: Tx, as_of: date, contact: UUID | None = None
) -> list[tuple[int, int, int, int]]:
    """Return (repeat purchase days, recency, age, customers), times in days."""
    rows: Sequence[Any] = await tx.fetch(PURCHASE_PATTERNS, as_of, contact)
    return [tuple(row.values()) for row in rows]


async def list_messages(tx: Tx, first: date | None, last: date) -> list[Row]:
    """Return messages per day, outcome, rule, channel and reason."""
    return await _rows(tx, MESSAGES, first, last)


async def list_points(tx: Tx, first: date | None, last: date) -> list[Row]:
    """Return points per day, by what happened to them."""
    return await _rows(tx, POINTS, first, last)


async def list_crossings(
    tx: Tx, first: date | None, last: date, zone: str, code: str | None
) -> list[Row]:
    """Return crossings per segment and day."""
    return await _rows(tx, CROSSINGS, first, last, zone, code)


async def count_facts(tx: Tx) -> dict[str, int]:
    """Return the number of facts by kind."""
    return {row["kind"]: row["facts"] for row in await tx.fetch(FACTS_BY_KIND)}


async def find_money_totals(tx: Tx) -> Row:
    """Return sums over the facts, and the live figure beside them."""
    return (await _rows(tx, MONEY_TOTALS))[0]


async def find_segment_totals(tx: Tx) -> Row:
    """Return memberships and crossings."""
    return (await _rows(tx, SEGMENT_TOTALS))[0]
