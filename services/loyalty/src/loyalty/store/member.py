"""Members, and the names that merged contacts leave behind."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from rapport.messaging.transaction import Tx


@dataclass(frozen=True, slots=True)
class Member:
    """Someone in the programme, under the name that counts now."""

    contact_id: UUID
    enrolled_at: datetime


async def add_members(tx: Tx, enrolled_at: Mapping[UUID, datetime]) -> set[UUID]:
    """Enrol contacts; return those that were not members."""
    rows = await tx.fetch(
        """
        insert into member (contact_id, enrolled_at)
        select * from unnest($1::uuid[], $2::timestamptz[]) on conflict do nothing
        returning contact_id
        """,
        list(enrolled_at),
        list(enrolled_at.values()),
    )
    return {row["contact_id"] for row in rows}


async def add_merge(tx: Tx, loser_id: UUID, survivor_id: UUID) -> None:
    """Make the loser, and all that had been merged into it, another name of the survivor."""
    await tx.execute(
        "update member set merged_into = $2 where contact_id = $1 or merged_into = $1",
        loser_id,
        survivor_id,
    )


async def find_member(tx: Tx, contact_id: UUID) -> Member | None:
    """Find a member under any of its names."""
    row = await tx.fetchrow(
        """
        select m.contact_id, m.enrolled_at from member named
        join member m on m.contact_id = coalesce(named.merged_into, named.contact_id)
        where named.contact_id = $1
        """,
        contact_id,
    )
    return Member(**row) if row else None


async def list_aliases(tx: Tx, contact_id: UUID) -> list[UUID]:
    """Return the member's id and the ids that were merged into it."""
    rows = await tx.fetch(
        "select contact_id from member where contact_id = $1 or merged_into = $1", contact_id
    )
    return [row["contact_id"] for row in rows]
