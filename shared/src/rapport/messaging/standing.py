"""What a service has open, read in one round trip: settling asks many times a second."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rapport.contracts.registry import INBOUND
from rapport.messaging.tick import FIRST_SNAPSHOT
from rapport.messaging.timer import IS_PARKED
from rapport.pgtypes import required

if TYPE_CHECKING:
    from datetime import datetime

    from rapport.clock import Clock
    from rapport.pgtypes import Connection

READ = f"""
with last as materialized (
    select epoch, after, snapshot from rapport.tick order by number desc limit 1
), seen as (
    select coalesce((select snapshot from last)::text, '{FIRST_SNAPSHOT}')::pg_snapshot as snapshot
), clock as (
    select coalesce(max(c.now), clock_timestamp()) as now,
        coalesce(max(c.fire_until), clock_timestamp()) as fire_until
    from rapport.clock c where $1
)
select clock.now, clock.fire_until, last.epoch, last.after,
    rapport.has_new_rows(pg_snapshot_xmax(seen.snapshot),
        array(select pg_snapshot_xip(seen.snapshot))) as is_open,
    (select jsonb_agg(jsonb_build_array(stream, partition, number, kafka_offset, stopped)
        order by stream, partition) from rapport.position) as positions,
    (select count(*) from rapport.timer t
        where t.due_at <= clock.fire_until and not {IS_PARKED}) as timers_due,
    (select min(due_at) from rapport.timer where due_at > clock.fire_until) as next_due
from clock cross join seen left join last on true
"""  # noqa: S608  constants only


class Standing(NamedTuple):
    """One reading. `produced` and `positions` are numbers by partition, `offsets` inbound's."""

    now: datetime
    fire_until: datetime
    epoch: int
    produced: list[int]
    is_open: bool
    positions: dict[str, dict[int, int]]
    stopped: list[dict[str, object]]
    offsets: dict[int, int]
    timers_due: int
    next_due: datetime | None


async def read(connection: Connection, clock: Clock, partitions: int) -> Standing:
    """Read clock, last tick, outbox, positions and timers in one statement."""
    row = required(await connection.fetchrow(READ, clock.simulated))
    positions: dict[str, dict[int, int]] = {}
    offsets: dict[int, int] = {}
    stopped: list[dict[str, object]] = []
    for stream, partition, number, offset, error in row["positions"] or ():
        if stream == INBOUND:
            offsets[partition] = offset
            continue
        positions.setdefault(stream, {})[partition] = number
        if error:
            stopped.append({"stream": stream, "partition": partition, "stopped": error})
    return Standing(
        now=row["now"],
        fire_until=row["fire_until"],
        epoch=row["epoch"] or 1,
        produced=list(row["after"] or [0] * partitions),
        is_open=row["is_open"],
        positions=positions,
        stopped=stopped,
        offsets=offsets,
        timers_due=row["timers_due"],
        next_due=row["next_due"],
    )
