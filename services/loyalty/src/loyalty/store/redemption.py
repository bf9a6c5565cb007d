"""Spends and the lots that they took their points from."""

from collections.abc import Iterable, Sequence
from uuid import UUID

import asyncpg

from loyalty.domain.records import Allocation, Redemption
from rapport.messaging.transaction import Tx

LIST = """
select r.id, r.contact_id, r.points, r.reference, r.authorised_at, r.held_until, r.state,
    r.captured, l.purchase_id, l.line, l.points, l.captured
from redemption r join redemption_lot l on l.redemption_id = r.id
"""


async def find_redemption(tx: Tx, redemption_id: UUID) -> Redemption | None:
    """Find a redemption, whosever it is."""
    rows = await tx.fetch(f"{LIST} where r.id = $1 order by l.number", redemption_id)
    return next(iter(_redemptions(rows)), None)


async def list_holds(tx: Tx, contact_ids: Iterable[UUID]) -> list[Redemption]:
    """Return the redemptions of members that hold points, those that end first in front."""
    rows = await tx.fetch(
        f"{LIST} where r.contact_id = any($1::uuid[]) and r.state = 'held'"
        " order by r.held_until, r.id, l.number",
        list(contact_ids),
    )
    return _redemptions(rows)


async def save_redemptions(tx: Tx, redemptions: Sequence[Redemption]) -> None:
    """Add redemptions, or write what changed of them."""
    parts = [(r.id, n, a) for r in redemptions for n, a in enumerate(r.allocations)]
    await tx.execute(
        """
        with redemptions as (
            insert into redemption (id, contact_id, points, reference, authorised_at, held_until,
                state, captured)
            select * from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[],
                $5::timestamptz[], $6::timestamptz[], $7::text[], $8::bigint[])
            on conflict (id) do update set
                contact_id = excluded.contact_id,
                state = excluded.state,
                captured = excluded.captured
        )
        insert into redemption_lot (redemption_id, number, purchase_id, line, points, captured)
        select * from unnest($9::uuid[], $10::integer[], $11::uuid[], $12::text[],
            $13::bigint[], $14::bigint[])
        on conflict (redemption_id, number) do update set captured = excluded.captured
        """,
        [r.id for r in redemptions],
        [r.contact_id for r in redemptions],
        [r.points for r in redemptions],
        [r.reference for r in redemptions],
        [r.authorised_at for r in redemptions],
        [r.held_until for r in redemptions],
        [r.state for r in redemptions],
        [r.captured for r in redemptions],
        [redemption_id for redemption_id, _, _ in parts],
        [number for _, number, _ in parts],
        [a.purchase_id for _, _, a in parts],
        [a.line for _, _, a in parts],
        [a.points for _, _, a in parts],
        [a.captured for _, _, a in parts],
    )


async def move_redemptions(tx: Tx, loser_id: UUID, survivor_id: UUID) -> None:
    """Let the survivor of a merge have the loser's redemptions."""
    await tx.execute(
        "update redemption set contact_id = $2 where contact_id = $1", loser_id, survivor_id
    )


def _redemptions(rows: Sequence[asyncpg.Record]) -> list[Redemption]:
    found: dict[UUID, Redemption] = {}
    for row in rows:
        redemption = found.setdefault(row[0], Redemption(*tuple(row)[:8]))
        redemption.allocations.append(Allocation(*tuple(row)[8:]))
    return list(found.values())
