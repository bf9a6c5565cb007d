"""Who is in a segment, and when borders were crossed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from analytics.domain.segment import Direction
from rapport.messaging.transaction import Tx

PUT_MEMBERS = """
with gone as (
    delete from segment_member m using unnest($3::uuid[], $4::text[]) as g (contact_id, code)
    where m.contact_id = g.contact_id and m.code = g.code)
insert into segment_member (contact_id, code, entered_at)
select *, $5 from unnest($1::uuid[], $2::text[])
on conflict do nothing
"""
ADD_CROSSINGS = """
insert into segment_crossing (event_id, code, version, contact_id, direction, crossed_at)
select *, $6 from unnest($1::uuid[], $2::text[], $3::int[], $4::uuid[], $5::text[])
on conflict do nothing
"""
OUTDATED = """
select p.contact_id from profile p cross join segment_in_force s
    left join segment_member m on m.contact_id = p.contact_id and m.code = s.code
where s.code = $1 and p.contact_id > $2
    and satisfies(s.rule, p.kept_purchases, p.purchase_days, p.monetary_minor)
        <> (m.contact_id is not null)
order by p.contact_id limit $3
"""
PREVIEW = """
select count(*) filter (where holds) as members,
    count(*) filter (where holds and not member) as entering,
    count(*) filter (where member and not holds) as leaving
from (
    select satisfies($2, p.kept_purchases, p.purchase_days, p.monetary_minor) as holds,
        m.contact_id is not null as member
    from profile p left join segment_member m on m.contact_id = p.contact_id and m.code = $1) e
"""
SUMMARIES = """
select s.code, s.version, s.rule, s.decided_at,
    (select count(*) from segment_member m where m.code = s.code) as members,
    count(c.event_id) filter (where c.direction = 'entered') as entered,
    count(c.event_id) filter (where c.direction = 'exited') as exited,
    count(c.event_id) filter (where c.direction = 'joined') as joined
from segment_in_force s left join segment_crossing c on c.code = s.code
where $1::text is null or s.code = $1
group by s.code, s.version, s.rule, s.decided_at order by s.code
"""
LIST_MEMBERS = """
select contact_id, entered_at from segment_member
where code = $1 and contact_id > $2 order by contact_id limit $3
"""


@dataclass(frozen=True, slots=True)
class Crossing:
    """A published crossing of a segment's border."""

    event_id: UUID
    code: str
    version: int
    contact_id: UUID
    direction: Direction


Membership = tuple[UUID, str]


async def put_members(tx: Tx, come: Collection[Membership], gone: Collection[Membership]) -> None:
    """Add and remove memberships."""
    await tx.execute(
        PUT_MEMBERS,
        [contact for contact, _ in come],
        [code for _, code in come],
        [contact for contact, _ in gone],
        [code for _, code in gone],
        tx.now,
    )


async def add_crossings(tx: Tx, crossings: Sequence[Crossing]) -> None:
    """Remember crossings by their events' ids."""
    await tx.execute(
        ADD_CROSSINGS,
        [c.event_id for c in crossings],
        [c.code for c in crossings],
        [c.version for c in crossings],
        [c.contact_id for c in crossings],
        [c.direction for c in crossings],
        tx.now,
    )


async def list_outdated(tx: Tx, code: str, after: UUID, limit: int) -> list[UUID]:
    """Return contacts whose membership contradicts the rule in force, from an id on."""
    return [row["contact_id"] for row in await tx.fetch(OUTDATED, code, after, limit)]


async def preview(tx: Tx, code: str, rule: dict[str, Any]) -> dict[str, int]:
    """Count who would be a member by a rule, and who would enter and leave."""
    row = await tx.fetchrow(PREVIEW, code, rule)
    return dict(row or {})


async def list_summaries(tx: Tx, code: str | None = None) -> list[dict[str, Any]]:
    """Return each segment's rule in force with its counts."""
    return [dict(row) for row in await tx.fetch(SUMMARIES, code)]


async def list_members(tx: Tx, code: str, after: UUID, limit: int) -> list[dict[str, Any]]:
    """Return members by id, from an id on."""
    return [dict(row) for row in await tx.fetch(LIST_MEMBERS, code, after, limit)]
