"""What contacts want, and the opaque tokens by which their links name them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rapport.messaging.transaction import Tx


@dataclass(frozen=True, slots=True)
class Link:
    """What a token stands for: a contact, under the name that counts now, and a list."""

    contact_id: UUID
    category: str


async def find_link(tx: Tx, token: str) -> Link | None:
    """Return what a token stands for."""
    row = await tx.fetchrow(
        """
        select coalesce(k.survivor, t.contact_id) as contact_id, t.category
        from unsubscribe_token t left join rapport.key k on k.id = t.contact_id
        where t.token = $1
        """,
        token,
    )
    return None if row is None else Link(row["contact_id"], row["category"])


async def find_wanted(tx: Tx, link: Link, channel: str) -> bool | None:
    """Return what the contact said, None when nothing."""
    wanted: bool | None = await tx.fetchval(
        "select wanted from preference where contact_id = $1 and category = $2 and channel = $3",
        link.contact_id,
        link.category,
        channel,
    )
    return wanted


async def save_preference(
    tx: Tx, link: Link, channel: str, event_id: UUID, *, wanted: bool
) -> None:
    """Keep what the contact wants from now on."""
    await tx.execute(
        """
        insert into preference (contact_id, category, channel, wanted, event_id, changed_at)
        values ($1, $2, $3, $4, $5, $6)
        on conflict (contact_id, category, channel) do update set
            wanted = excluded.wanted, event_id = excluded.event_id,
            changed_at = excluded.changed_at
        """,
        link.contact_id,
        link.category,
        channel,
        wanted,
        event_id,
        tx.now,
    )


async def join_preferences(tx: Tx, losers: Sequence[UUID], survivors: Sequence[UUID]) -> None:
    """Move the losers' preferences; where both have one, a no beats a yes."""
    await tx.execute(
        """
        with gone as (
            delete from preference using unnest($1::uuid[], $2::uuid[]) as m(loser, survivor)
            where contact_id = m.loser returning preference.*, m.survivor
        )
        insert into preference (contact_id, category, channel, wanted, event_id, changed_at)
        select distinct on (survivor, category, channel)
            survivor, category, channel, wanted, event_id, changed_at
        from gone order by survivor, category, channel, wanted, contact_id
        on conflict (contact_id, category, channel) do update set
            wanted = excluded.wanted, event_id = excluded.event_id
        where preference.wanted and not excluded.wanted
        """,
        losers,
        survivors,
    )
