"""Live figures against what the facts give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rapport.messaging.transaction import Tx

# One statement, hence one snapshot: facts and figures are committed together.
LIST_DIFFERENCES = """
with live_revenue as (
    select day, sum(purchases)::bigint as purchases, sum(refunds)::bigint as refunds,
        sum(gross_minor)::bigint as gross_minor, sum(refunded_minor)::bigint as refunded_minor
    from revenue_day group by day
), live_profile as (
    select contact_id, kept_purchases, purchase_days, monetary_minor, first_kept_on, last_kept_on
    from profile
), live_kept_day as (
    select contact_id, day, purchases from kept_day where purchases > 0
), crossed as (
    select contact_id, code, sum(case direction when 'entered' then 1 else -1 end) as balance
    from segment_crossing group by contact_id, code
), difference as (
    select 'revenue_day' as figure, day::text as key, to_jsonb(l) as live, to_jsonb(r) as rebuilt
    from live_revenue l full join rebuilt_revenue_day r using (day)
    where to_jsonb(l) is distinct from to_jsonb(r)
    union all
    select 'profile', contact_id::text, to_jsonb(l), to_jsonb(r)
    from live_profile l full join rebuilt_profile r using (contact_id)
    where to_jsonb(l) is distinct from to_jsonb(r)
    union all
    select 'kept_day', contact_id || ' ' || day, to_jsonb(l), to_jsonb(r)
    from live_kept_day l full join rebuilt_kept_day r using (contact_id, day)
    where l.purchases is distinct from r.purchases
    union all
    select 'segment_member', contact_id || ' ' || code, to_jsonb(l), to_jsonb(r)
    from (select contact_id, code from segment_member) l
        full join rebuilt_member r using (contact_id, code)
    where l.code is null or r.code is null
    union all
    select 'segment_crossing', contact_id || ' ' || code, to_jsonb(l), to_jsonb(r)
    from (select contact_id, code, 1 as balance from segment_member) l
        full join crossed r using (contact_id, code)
    where coalesce(l.balance, 0) <> coalesce(r.balance, 0)
)
select figure, key, live, rebuilt, count(*) over () as total from difference
order by figure, key limit $1
"""
# In the order in which handlers write them.
# In the order in which PUT_FIGURES takes them.
LOCK_FIGURES = "lock table kept_day, revenue_day, profile in share row exclusive mode"
MEND_PROFILES = """
with wrong as (
    delete from profile p where not exists (
        select from rebuilt_profile r where r.contact_id = p.contact_id))
insert into profile as p (contact_id, kept_purchases, purchase_days, monetary_minor,
    first_kept_on, last_kept_on, updated_at)
select contact_id, kept_purchases, purchase_days, monetary_minor, first_kept_on, last_kept_on, $1
from rebuilt_profile
on conflict (contact_id) do update set kept_purchases = excluded.kept_purchases,
    purchase_days = excluded.purchase_days, monetary_minor = excluded.monetary_minor,
    first_kept_on = excluded.first_kept_on, last_kept_on = excluded.last_kept_on,
    updated_at = excluded.updated_at
where (p.kept_purchases, p.purchase_days, p.monetary_minor, p.first_kept_on, p.last_kept_on)
    is distinct from (excluded.kept_purchases, excluded.purchase_days, excluded.monetary_minor,
        excluded.first_kept_on, excluded.last_kept_on)
"""
MEND_KEPT_DAYS = """
with wrong as (
    delete from kept_day k where not exists (
        select from rebuilt_kept_day r where r.contact_id = k.contact_id and r.day = k.day))
insert into kept_day as k (contact_id, day, purchases)
select contact_id, day, purchases from rebuilt_kept_day
on conflict (contact_id, day) do update set purchases = excluded.purchases
where k.purchases <> excluded.purchases
"""
CLEAR_REVENUE = "delete from revenue_day"
FILL_REVENUE = """
insert into revenue_day (day, partition, purchases, refunds, gross_minor, refunded_minor)
select day, 0, purchases, refunds, gross_minor, refunded_minor from rebuilt_revenue_day
"""


@dataclass(frozen=True, slots=True)
class Difference:
    """A live figure that is not what the facts give; None where one side has no row."""

    figure: str
    key: str
    live: dict[str, Any] | None
    rebuilt: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Differences:
    """How many there are, and the first of them."""

    total: int
    first: list[Difference]


async def list_differences(tx: Tx, limit: int) -> Differences:
    """Compare every live figure with what the facts give."""
    rows = await tx.fetch(LIST_DIFFERENCES, limit)
    first = [Difference(r["figure"], r["key"], r["live"], r["rebuilt"]) for r in rows]
    return Differences(rows[0]["total"] if rows else 0, first)


async def lock_figures(tx: Tx) -> None:
    """Keep everybody else from writing figures until this transaction ends."""
    await tx.execute(LOCK_FIGURES)


async def mend_profiles(tx: Tx) -> None:
    """Make the profiles what the facts give."""
    await tx.execute(MEND_PROFILES, tx.now)


async def mend_kept_days(tx: Tx) -> None:
    """Make the days of kept purchases what the facts give."""
    await tx.execute(MEND_KEPT_DAYS)


async def clear_revenue(tx: Tx) -> None:
    """Forget the live revenue."""
    await tx.execute(CLEAR_REVENUE)


async def fill_revenue(tx: Tx) -> None:
    """Fill the emptied live revenue from the facts."""
    await tx.execute(FILL_REVENUE)
