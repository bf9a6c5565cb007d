"""Live figures per contact: profile, days of kept purchases, aliases."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date
from uuid import UUID

from analytics.domain.profile import Profile
from rapport.messaging.transaction import Tx

LIST_PROFILES = """
select contact_id, kept_purchases, purchase_days, monetary_minor, first_kept_on, last_kept_on,
    array(select code from segment_member m where m.contact_id = p.contact_id) as segments
from profile p where contact_id = any($1::uuid[])
"""
LIST_KEPT_DAYS = """
select contact_id, day, purchases from kept_day
where contact_id = any($1::uuid[]) and ($2::date[] is null or day = any($2))
"""
PUT_PROFILES = """
insert into profile as p (contact_id, kept_purchases, purchase_days, monetary_minor,
    first_kept_on, last_kept_on, updated_at)
select *, $7 from unnest($1::uuid[], $2::int[], $3::int[], $4::bigint[], $5::date[], $6::date[])
on conflict (contact_id) do update set kept_purchases = excluded.kept_purchases,
    purchase_days = excluded.purchase_days, monetary_minor = excluded.monetary_minor,
    first_kept_on = excluded.first_kept_on, last_kept_on = excluded.last_kept_on,
    updated_at = excluded.updated_at
"""
PUT_KEPT_DAYS = """
insert into kept_day (contact_id, day, purchases)
select * from unnest($1::uuid[], $2::date[], $3::int[])
on conflict (contact_id, day) do update set purchases = excluded.purchases
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


async def list_profiles(tx: Tx, contacts: Collection[UUID]) -> dict[UUID, Profile]:
    """Return known profiles with their segments, without days."""
    return {
        r["contact_id"]: Profile(
            r["contact_id"],
            r["kept_purchases"],
            r["purchase_days"],
            r["monetary_minor"],
            r["first_kept_on"],
            r["last_kept_on"],
            segments=set(r["segments"]),
        )
        for r in await tx.fetch(LIST_PROFILES, contacts)
    }


async def list_kept_days(
    tx: Tx, contacts: Collection[UUID], days: Collection[date] | None
) -> list[tuple[UUID, date, int]]:
    """Return (contact, day, kept purchases), of all days when `days` is None."""
    rows = await tx.fetch(LIST_KEPT_DAYS, contacts, days)
    return [(r["contact_id"], r["day"], r["purchases"]) for r in rows]


async def put_profiles(tx: Tx, profiles: Sequence[Profile]) -> None:
    """Store the figures as they are now."""
    await tx.execute(
        PUT_PROFILES,
        [p.contact_id for p in profiles],
        [p.kept_purchases for p in profiles],
        [p.purchase_days for p in profiles],
        [p.monetary_minor for p in profiles],
        [p.first_kept_on for p in profiles],
        [p.last_kept_on for p in profiles],
        tx.now,
    )


async def put_kept_days(tx: Tx, days: Sequence[tuple[UUID, date, int]]) -> None:
    """Store counts as they are now; a count of 0 stays as a row that nothing reads."""
    columns = [list(column) for column in zip(*days, strict=True)] or [[], [], []]
    await tx.execute(PUT_KEPT_DAYS, *columns)


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
