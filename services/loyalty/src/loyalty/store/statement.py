"""What a member sees beside the balance: the statement."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from rapport.messaging.transaction import Tx


@dataclass(frozen=True, slots=True)
class StatementEntry:
    """One journal, as the change it made to each of the member's accounts.

    `debt` is what the member owes: above zero where the journal made it owe more.
    """

    id: int
    rule: str
    leg: str
    purchase_id: UUID | None
    source_event: UUID
    booked_at: datetime
    pending: int
    active: int
    held: int
    debt: int


async def list_entries(
    tx: Tx, contact_ids: Sequence[UUID], before: int | None, limit: int
) -> list[StatementEntry]:
    """Return the newest entries before an id, newest first."""
    rows = await tx.fetch(
        """
        with page as materialized (
            select id, rule, leg, purchase_id, source_event, booked_at from journal
            where contact_id = any($1::uuid[]) and ($2::bigint is null or id < $2)
            order by id desc limit $3
        )
        select p.*, sums.* from page p
        cross join lateral (
            select coalesce(sum(points) filter (where account = 'pending'), 0)::bigint,
                coalesce(sum(points) filter (where account = 'active'), 0)::bigint,
                coalesce(sum(points) filter (where account = 'held'), 0)::bigint,
                coalesce(-sum(points) filter (where account = 'debt'), 0)::bigint
            from journal_line
            where journal_id = p.id and contact_id = any($1::uuid[])
        ) as sums(pending, active, held, debt)
        order by p.id desc
        """,
        contact_ids,
        before,
        limit,
    )
    return [StatementEntry(*row) for row in rows]
