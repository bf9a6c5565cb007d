"""Permissions: an append-only list, of which the newest counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from contacts.domain.consent import Channel, Decision, Purpose
from rapport.messaging.transaction import Tx


@dataclass(frozen=True, slots=True)
class Recorded:
    """A decision as it was recorded; `current` when it is the newest of its purpose and channel."""

    event_id: UUID
    purpose: Purpose
    channel: Channel
    granted: bool
    wording_version: str
    recipient: str
    decided_at: datetime
    recorded_at: datetime
    current: bool


ADD = """
insert into consent (event_id, contact_id, purpose, channel, granted, wording_version, recipient,
    decided_at, recorded_at)
select event_id, contact_id, purpose, channel, granted, wording_version, recipient, decided_at, $9
from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::boolean[], $6::text[], $7::text[],
    $8::timestamptz[]) with ordinality as new (event_id, contact_id, purpose, channel, granted,
    wording_version, recipient, decided_at, place)
order by place
on conflict (event_id) do nothing
"""
LIST = """
select event_id, purpose, channel, granted, wording_version, recipient, decided_at, recorded_at,
    number = max(number) over (partition by purpose, channel) as current
from consent where contact_id = $1 order by number desc
"""


async def add_consents(tx: Tx, decisions: Sequence[tuple[UUID, UUID, Decision]]) -> None:
    """Append decisions, given as (event id, contact id, decision), in their order."""
    rows = [
        (
            event_id,
            contact_id,
            d.purpose,
            d.channel,
            d.granted,
            d.wording_version,
            d.recipient,
            d.decided_at,
        )
        for event_id, contact_id, d in decisions
    ]
    await tx.execute(ADD, *zip(*rows, strict=True), tx.now)


async def list_consents(tx: Tx, contact_id: UUID) -> list[Recorded]:
    """Return a contact's decisions, the newest first."""
    return [Recorded(*row) for row in await tx.fetch(LIST, contact_id)]
