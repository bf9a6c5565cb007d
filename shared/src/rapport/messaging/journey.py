"""An event's journey, told from tables: written, numbered, sent, applied or parked, and causes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from rapport.contracts.registry import EVENT_TYPES
from rapport.messaging import tick
from rapport.messaging.numbering import Numbering

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    import asyncpg

    from rapport.contracts.base import Event
    from rapport.pgtypes import Connection

    Later = Callable[[Event], Sequence[UUID]]

WRITTEN = """
select event_id, key, hash, contacts, type, occurred_at, written_at, xid::text as xid, number,
    cause_id, causal, trace, body
from rapport.outbox where event_id = $1 limit 1
"""
CAUSED = """
select event_id, type from rapport.outbox where cause_id = any($1::uuid[]) order by number limit 200
"""
PARKED = """
select id, stream, partition, number, reason, error, attempts, parked_at, trace
from rapport.parked_event where event_id = $1
"""
ACCEPTED = "select source, id, accepted_at from rapport.inbox where event_id = $1 limit 1"
TICK_OF = """
select * from rapport.tick t where t.number = (
    select min(number) from rapport.tick
    where pg_visible_in_snapshot($1::text::xid8, snapshot::pg_snapshot))
"""
APPLIED = """
select stream, partition, epoch, first_number, last_number, applied, skipped, parked, attempts,
    worker, started_at, committed_at
from rapport.batch_log
where stream = $1 and partition = $2 and first_number <= $3 and last_number >= $3
order by committed_at
"""


def nothing_later(_event: Event) -> Sequence[UUID]:
    """No event leads to commands or timers that can be named."""
    return ()


async def find_published(connection: Connection, row: asyncpg.Record) -> dict[str, Any]:
    """Return where and when this service's own event, a row of its outbox, was numbered.

    The number is the tick's base and the event's rank in it; null while no tick has it.
    """
    event_id = row["event_id"]
    found = {k: row[k] for k in ("event_id", "type", "key", "cause_id", "causal", "trace")}
    found |= {"written_at": row["written_at"], "occurred_at": row["occurred_at"]}
    cut = await connection.fetchrow(TICK_OF, row["xid"])
    if cut is None:
        return found | {"number": None}
    numbered = tick.Tick.of(cut)
    numbering = Numbering("", numbered)
    previous = await tick.snapshot_before(connection, numbered)
    async for rows in tick.list_rows(connection, previous, numbered):
        for candidate in rows:
            partition, number = numbering.take(candidate)
            if candidate["event_id"] == event_id:
                place = {"partition": partition, "number": number, "epoch": numbered.epoch}
                return found | place | {"tick": numbered.number, "cut_at": cut["cut_at"]}
    return found | {"number": None}


async def find_applied(
    connection: Connection, stream: str, partition: int, number: int
) -> list[dict[str, Any]]:
    """Return this service's transactions over the event with this number."""
    return [dict(r) for r in await connection.fetch(APPLIED, stream, partition, number)]


async def tell(
    connection: Connection, service: str, event_id: UUID, later: Later = nothing_later
) -> dict[str, Any]:
    """Return what this service's tables say of an event.

    `caused` holds also what came of the commands and timers that the event led to.
    """
    accepted = await connection.fetchrow(ACCEPTED, event_id)
    written = await connection.fetchrow(WRITTEN, event_id)
    causes = [event_id]
    if written is not None:
        causes += later(msgspec.json.decode(written["body"], type=EVENT_TYPES[written["type"]]))
    return {
        "service": service,
        "published": await find_published(connection, written) if written else None,
        "parked": [dict(row) for row in await connection.fetch(PARKED, event_id)],
        "inbox": dict(accepted) if accepted else None,
        "caused": [dict(row) for row in await connection.fetch(CAUSED, causes)],
    }
