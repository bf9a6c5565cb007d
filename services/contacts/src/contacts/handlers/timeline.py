"""Facts of the other services on the contact's timeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contacts.domain.timeline import details_of, time_of
from contacts.store import timeline as timeline_store
from rapport.messaging.delivery import Delivery
from rapport.messaging.handler import several_per_contact
from rapport.messaging.transaction import Tx


@several_per_contact
async def add_to_timeline(facts: Sequence[Delivery[Any]], tx: Tx) -> None:
    """Keep each fact once."""
    entries = [
        timeline_store.Entry(
            fact.id,
            fact.contact_id,
            time_of(fact.event, fact.time),
            fact.type,
            details_of(fact.event),
        )
        for fact in facts
    ]
    await timeline_store.add_entries(tx, entries)
