"""Anniversaries that were published."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import NamedTuple
from uuid import UUID

from rapport.messaging.transaction import Tx


class Celebration(NamedTuple):
    """A contact's purchases that were remembered on a local day."""

    contact_id: UUID
    local_date: date
    event_id: UUID
    purchases: Sequence[UUID]


ADD = """
insert into anniversary (contact_id, local_date, event_id, purchases, published_at)
select contact_id, local_date, event_id, purchases::uuid[], $5
from unnest($1::uuid[], $2::date[], $3::uuid[], $4::text[])
    as new (contact_id, local_date, event_id, purchases)
order by contact_id
on conflict (contact_id, local_date) do nothing
"""


async def add_anniversaries(tx: Tx, published: Sequence[Celebration]) -> None:
    """Record what was published."""
    rows = [
        (c.contact_id, c.local_date, c.event_id, f"{{{','.join(map(str, c.purchases))}}}")
        for c in published
    ]
    await tx.execute(ADD, *zip(*rows, strict=True), tx.now)
