"""Lines of days that have a cap."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import date
from uuid import UUID

import asyncpg

from loyalty.domain.records import CappedLine
from rapport.messaging.transaction import Tx

COLUMNS = tuple(field.name for field in fields(CappedLine) if field.name != "changed")


async def list_days(tx: Tx, days: Iterable[tuple[UUID, date]]) -> list[CappedLine]:
    """Return the lines of members' days."""
    pairs = list(days)
    rows = await tx.fetch(
        """
        select * from capped_line where (contact_id, day) in (
            select * from unnest($1::uuid[], $2::date[]))
        """,
        [contact_id for contact_id, _ in pairs],
        [day for _, day in pairs],
    )
    return _lines(rows)


async def list_days_of(tx: Tx, purchase_ids: Iterable[UUID]) -> list[CappedLine]:
    """Return all lines of the days on which these purchases were made."""
    rows = await tx.fetch(
        """
        select * from capped_line where (contact_id, day) in (
            select contact_id, day from capped_line where purchase_id = any($1::uuid[]))
        """,
        list(set(purchase_ids)),
    )
    return _lines(rows)


async def list_shared_days(tx: Tx, contact_ids: Sequence[UUID]) -> list[CappedLine]:
    """Return the lines of those days on which more than one of the members bought."""
    rows = await tx.fetch(
        """
        select * from capped_line where contact_id = any($1::uuid[]) and day in (
            select day from capped_line where contact_id = any($1::uuid[])
            group by day having count(distinct contact_id) > 1)
        """,
        contact_ids,
    )
    return _lines(rows)


async def save_capped_lines(tx: Tx, lines: Sequence[CappedLine]) -> None:
    """Add lines, or write what changed of them."""
    await tx.execute(
        """
        insert into capped_line (contact_id, day, purchase_id, number, line, occurred_at, cap,
            net_minor, points, active_from, expires_at, refunded_minor, granted)
        select * from unnest($1::uuid[], $2::date[], $3::uuid[], $4::integer[], $5::text[],
            $6::timestamptz[], $7::integer[], $8::bigint[], $9::bigint[], $10::timestamptz[],
            $11::timestamptz[], $12::bigint[], $13::bigint[])
        on conflict (purchase_id, line) do update set
            refunded_minor = excluded.refunded_minor,
            granted = excluded.granted
        """,
        *([getattr(line, name) for line in lines] for name in COLUMNS),
    )


async def move_capped_lines(tx: Tx, loser_id: UUID, survivor_id: UUID) -> None:
    """Let the survivor of a merge have the loser's lines."""
    await tx.execute(
        "update capped_line set contact_id = $2 where contact_id = $1", loser_id, survivor_id
    )


def _lines(rows: Sequence[asyncpg.Record]) -> list[CappedLine]:
    return [CappedLine(**row) for row in rows]
