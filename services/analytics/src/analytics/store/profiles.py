"""Live figures: profiles, days of kept purchases, revenue by day; and aliases."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from typing import Any
from uuid import UUID

from analytics.domain.profile import Profile
from analytics.domain.revenue import RevenueChanges
from rapport.messaging.transaction import Tx

LIST_PROFILES = """
select contact_id, kept_purchases, purchase_days, monetary_minor, first_kept_on, last_kept_on,
    days, counts, array(select code from segment_member m where m.contact_id = p.contact_id)
from profile p, lateral (
    select array_agg(k.day) as days, array_agg(k.purchases) as counts
    from kept_day k where k.contact_id = p.contact_id and k.day between $2 and $3) bought
where contact_id = any($1::uuid[])
"""
PUT_FIGURES = """
with bought as (
    insert into kept_day (contact_id, day, purchases)
    select * from unnest($8::uuid[], $9::date[], $10::int[])
    on conflict (contact_id, day) do update set purchases = excluded.purchases
), earned as (
    insert into revenue_day as r (day, partition, purchases, refunds, gross_minor, refunded_minor)
    select * from unnest($11::date[], $12::int[], $13::bigint[], $14::bigint[], $15::bigint[],
        $16::bigint[])
    order by 1, 2
    on conflict (day, partition) do update set purchases = r.purchases + excluded.purchases,
        refunds = r.refunds + excluded.refunds,
        gross_minor = r.gross_minor + excluded.gross_minor,
        refunded_minor = r.refunded_minor + excluded.refunded_minor
)
insert into profile as p (contact_id, kept_purchases, purchase_days, monetary_minor,
    first_kept_on, last_kept_on, updated_at)
select *, $7 from unnest($1::uuid[], $2::int[], $3::int[], $4::bigint[], $5::date[], $6::date[])
on conflict (contact_id) do update set kept_purchases = excluded.kept_purchases,
    purchase_days = excluded.purchase_days, monetary_minor = excluded.monetary_minor,
    first_kept_on = excluded.first_kept_on, last_kept_on = excluded.last_kept_on,
    updated_at = excluded.updated_at
"""
ADD_ALIAS = """
with compressed as (update alias set survivor_id = $2 where survivor_id = $1)
insert into alias (loser_id, survivor_id) values ($1, $2)
on conflict (loser_id) do update set survivor_id = excluded.survivor_id
"""
FIND_SURVIVOR = "select survivor_id from alias where loser_id = $1"
DELETE_PROFILE = """
with days as (delete from kept_day where contact_id = $1),
    memberships as (delete from segment_member where contact_id = $1),
    crossings as (update segment_crossing set contact_id = $2 where contact_id = $1)
delete from profile where contact_id = $1
"""


async def list_profiles(
    tx: Tx, contacts: Collection[UUID], first: date = date.min, last: date = date.max
) -> dict[UUID, Profile]:
    """Return known profiles with their segments, and the days between `first` and `last`."""
    rows = await tx.fetch(LIST_PROFILES, contacts, first, last)
    return {row[0]: _profile(*row.values()) for row in rows}


def _profile(*columns: Any) -> Profile:  # noqa: ANN401  a row's values
    *figures, days, counts, codes = columns
    profile = Profile(*figures)
    profile.days.update(zip(days or (), counts or (), strict=True))
    profile.segments.update(codes)
    return profile


async def put_figures(
    tx: Tx,
    profiles: Collection[Profile],
    days: Collection[tuple[UUID, date, int]],
    changes: RevenueChanges,
) -> None:
    """Store profiles and counts of days as they are now, and add to revenue.

    A count of 0 stays as a row that nothing reads. Revenue rows go in (day, partition) order.
    """
    places = sorted(changes.by_place.items())
    await tx.execute(
        PUT_FIGURES,
        [p.contact_id for p in profiles],
        [p.kept_purchases for p in profiles],
        [p.purchase_days for p in profiles],
        [p.monetary_minor for p in profiles],
        [p.first_kept_on for p in profiles],
        [p.last_kept_on for p in profiles],
        tx.now,
        [contact for contact, _, _ in days],
        [day for _, day, _ in days],
        [purchases for _, _, purchases in days],
        [day for (day, _), _ in places],
        [partition for (_, partition), _ in places],
        [change.purchases for _, change in places],
        [change.refunds for _, change in places],
        [change.gross_minor for _, change in places],
        [change.refunded_minor for _, change in places],
    )


async def add_alias(tx: Tx, loser: UUID, survivor: UUID) -> None:
    """Make the loser, and who had been joined to it, other names of the survivor."""
    await tx.execute(ADD_ALIAS, loser, survivor)


async def find_survivor(tx: Tx, contact: UUID) -> UUID | None:
    """Return whose other name this is, if it is one."""
    survivor: UUID | None = await tx.fetchval(FIND_SURVIVOR, contact)
    return survivor


async def delete_profile(tx: Tx, loser: UUID, survivor: UUID) -> None:
    """Remove a loser's live figures; its crossings become the survivor's."""
    await tx.execute(DELETE_PROFILE, loser, survivor)
