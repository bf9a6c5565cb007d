"""Anniversaries that were published."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from uuid import UUID

from rapport.messaging.transaction import Tx

ADD = """
insert into anniversary (contact_id, local_date, event_id, purchases, published_at)
select contact_id, local_date, event_id,
    array(select value::uuid from jsonb_array_elements_text(purchases) as value), $5
from unnest($1::uuid[], $2::date[], $3::uuid[], $4::jsonb[])
    as new (contact_id, local_date, event_id, purchases)
order by contact_id
on conflict (contact_id, local_date) do nothing
"""


async def add_anniversaries(
    tx: Tx, published: Sequence[tuple[UUID, date, UUID, list[str]]]
) -> None:
    """Record (contact, local day, event, purchases)."""
    await tx.execute(ADD, *zip(*published, strict=True), tx.now)
