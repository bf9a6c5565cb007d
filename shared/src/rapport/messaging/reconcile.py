"""What a service produced, where it stands in the others' streams, and what is parked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rapport.contracts.registry import STREAMS
from rapport.messaging.tick import FIRST_SNAPSHOT, NEW_ROWS, Snapshot

if TYPE_CHECKING:
    from rapport.pgtypes import Connection

LAST_TICK = "select number, epoch, after, snapshot from rapport.tick order by number desc limit 1"
POSITIONS = """
select stream, partition, epoch, number, kafka_offset, stopped from rapport.position
where stream = any($1::text[]) order by 1, 2
"""
PARKED = """
select stream, partition, count(*) as events from rapport.parked_event group by 1, 2
"""
OUTBOX_ROWS = """
select (hash % $1)::int as partition, count(*) as rows from rapport.outbox group by 1
"""
ORDERED_GAPS = """
select stream, partition, last_number + 1 as first, next - 1 as last from (
    select stream, partition, epoch, last_number,
        lead(first_number) over (
            partition by stream, partition, epoch order by first_number) as next
    from rapport.batch_log) steps
where next is not null and next <> last_number + 1
"""


async def read_produced(connection: Connection, partitions: int) -> dict[str, Any]:
    """Return the last tick's numbers, and whether rows wait that no tick has numbered."""
    row = await connection.fetchrow(LAST_TICK)
    after = row["after"] if row else [0] * partitions
    snapshot = Snapshot.parse(row["snapshot"] if row else FIRST_SNAPSHOT)
    running = [str(xid) for xid in snapshot.running]
    is_open = await connection.fetchval(NEW_ROWS, str(snapshot.xmax), running)
    return {
        "tick": row["number"] if row else 0,
        "epoch": row["epoch"] if row else 1,
        "produced": {str(p): n for p, n in enumerate(after)},
        "open": int(is_open),
    }


async def read_positions(connection: Connection) -> list[dict[str, Any]]:
    """Return this service's rows of `rapport.position` for internal streams."""
    rows = await connection.fetch(POSITIONS, list(STREAMS))
    return [dict(row) for row in rows]


async def reconcile(
    connection: Connection, service: str, partitions: int, *, full: bool
) -> dict[str, Any]:
    """Return this service's side of the reconciliation; `full` counts rows and looks for gaps."""
    produced = await read_produced(connection, partitions)
    positions: dict[str, dict[str, int]] = {}
    for row in await read_positions(connection):
        positions.setdefault(row["stream"], {})[str(row["partition"])] = row["number"]
    parked: dict[str, dict[str, int]] = {}
    for held in await connection.fetch(PARKED):
        parked.setdefault(held["stream"], {})[str(held["partition"])] = held["events"]
    answer: dict[str, Any] = {
        "service": service,
        "stream": f"{service}.events.v1",
        "epoch": produced["epoch"],
        "produced": produced["produced"],
        "positions": positions,
        "parked": parked,
    }
    if full:
        counted = await connection.fetch(OUTBOX_ROWS, partitions)
        rows = {r["partition"]: r["rows"] for r in counted}
        answer["outbox"] = {
            p: {"rows": rows.get(int(p), 0), "numbered": n} for p, n in produced["produced"].items()
        }
        answer["gaps"] = [dict(row) for row in await connection.fetch(ORDERED_GAPS)]
    return answer
