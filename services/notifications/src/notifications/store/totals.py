"""Totals of the base tables, and what is still open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from rapport.messaging.transaction import Tx


async def count_messages(tx: Tx) -> list[tuple[str, str, str | None, int]]:
    """Return (rule, state, reason, how many)."""
    rows = await tx.fetch(
        "select rule, state, reason, count(*) from message group by 1, 2, 3 order by 1, 2, 3"
    )
    return [(row[0], row[1], row[2], row[3]) for row in rows]


async def count_others(tx: Tx) -> dict[str, Any]:
    """Return the numbers of attempts, recipients, suppressed addresses and granted consents."""
    row = await tx.fetchrow(
        """
        select (select count(*) from attempt) as attempts,
            (select count(*) from recipient) as recipients,
            (select count(*) from suppression) as suppressed_addresses,
            (select count(*) from consent
             where purpose = 'marketing' and channel = 'email' and granted) as marketing_consents
        """
    )
    return dict(row or {})


async def count_pending(tx: Tx) -> dict[str, int]:
    """Return what settling waits for: messages due, and hand-overs without a result."""
    row = await tx.fetchrow(
        """
        select (
            select count(*) from message m where state = 'queued' and due_at <= $1
                and not (message_class = 'marketing' and exists (
                    select 1 from rapport.key k where k.id = m.contact_id and k.parked))
            ) as mails_due,
            (select count(*) from attempt where state in ('sending', 'unknown')) as mails_open
        """,
        tx.now,
    )
    return dict(row or {})


async def find_next_due(tx: Tx) -> datetime | None:
    """Return the next instant at which a deferred message becomes due."""
    due: datetime | None = await tx.fetchval(
        "select min(due_at) from message where state = 'queued' and due_at > $1", tx.now
    )
    return due
