"""Refunds: those that were seen, and those that wait for their purchase."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from uuid import UUID

import msgspec

from loyalty.domain.records import Refund
from rapport.contracts.contacts import RefundedLine
from rapport.messaging.transaction import Tx


async def add_refunds(tx: Tx, refunds: Sequence[Refund]) -> set[UUID]:
    """Note that refunds were seen; return those that had not been."""
    rows = await tx.fetch(
        """
        insert into refund (refund_id, purchase_id, event_id, occurred_at)
        select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[])
        on conflict do nothing
        returning refund_id
        """,
        [r.refund_id for r in refunds],
        [r.purchase_id for r in refunds],
        [r.event_id for r in refunds],
        [r.occurred_at for r in refunds],
    )
    return {row["refund_id"] for row in rows}


async def list_earned(tx: Tx, purchase_ids: Iterable[UUID]) -> dict[UUID, int]:
    """Return which of the purchases were judged already, and by which version."""
    rows = await tx.fetch(
        "select purchase_id, programme_version from earning where purchase_id = any($1::uuid[])",
        list(set(purchase_ids)),
    )
    return {row["purchase_id"]: row["programme_version"] for row in rows}


async def add_waiting_refunds(tx: Tx, refunds: Sequence[Refund]) -> None:
    """Let refunds wait for their purchases, in this order."""
    await tx.execute(
        """
        insert into waiting_refund (refund_id, purchase_id, contact_id, event_id, occurred_at,
            lines)
        select r, p, c, e, o, l::jsonb from unnest(
            $1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::timestamptz[], $6::text[]
        ) with ordinality as w(r, p, c, e, o, l, n)
        order by n
        """,
        [r.refund_id for r in refunds],
        [r.purchase_id for r in refunds],
        [r.contact_id for r in refunds],
        [r.event_id for r in refunds],
        [r.occurred_at for r in refunds],
        [msgspec.json.encode(r.lines).decode() for r in refunds],
    )


async def take_waiting_refunds(tx: Tx, purchase_ids: Iterable[UUID]) -> dict[UUID, list[Refund]]:
    """End the wait of the purchases' refunds; return them by purchase in order of arrival."""
    rows = await tx.fetch(
        """
        with taken as (
            delete from waiting_refund where purchase_id = any($1::uuid[]) returning *
        )
        select refund_id, purchase_id, contact_id, event_id, occurred_at, lines
        from taken order by arrival
        """,
        list(set(purchase_ids)),
    )
    waiting = defaultdict(list)
    for row in rows:
        lines = msgspec.convert(row["lines"], tuple[RefundedLine, ...])
        refund = Refund(**dict(row) | {"lines": lines})
        waiting[refund.purchase_id].append(refund)
    return waiting


async def list_waiting(tx: Tx, refund_ids: Iterable[UUID]) -> dict[UUID, UUID]:
    """Return which of the refunds still wait, and for which purchase."""
    rows = await tx.fetch(
        "select refund_id, purchase_id from waiting_refund where refund_id = any($1::uuid[])",
        list(refund_ids),
    )
    return {row["refund_id"]: row["purchase_id"] for row in rows}
