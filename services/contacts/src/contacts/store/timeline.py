"""What happened to a contact, in all services."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from rapport.messaging.transaction import Tx


class Entry(NamedTuple):
    """One fact; `details` is JSON text."""

    event_id: UUID
    contact_id: UUID
    occurred_at: datetime
    type: str
    details: str


ADD = """
insert into timeline (event_id, contact_id, occurred_at, type, details)
select * from unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[], $5::jsonb[])
on conflict (event_id) do nothing
"""
LIST = """
select event_id, occurred_at, type, details from timeline
where contact_id = $1 and (occurred_at, event_id) < ($2, $3)
order by occurred_at desc, event_id desc limit $4
"""


async def add_entries(tx: Tx, entries: Sequence[Entry]) -> None:
    """Add facts; one that is there already is left alone."""
    await tx.execute(ADD, *zip(*entries, strict=True))


async def list_entries(
    tx: Tx, contact_id: UUID, before: tuple[datetime, UUID], limit: int
) -> list[dict[str, Any]]:
    """Return a contact's facts, the newest first."""
    return [dict(row) for row in await tx.fetch(LIST, contact_id, *before, limit)]
