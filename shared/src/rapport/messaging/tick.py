"""Ticks number the outbox: PgQ's idea, a snapshot is the border between published and not yet.

Rows of tick N have an xid in [xmax(N-1), xmax(N)) or on the in-progress list of N-1, are visible
in N, and are numbered per partition in the order of their identity number. A late commit is never
skipped, and whoever computes the numbers again gets the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rapport.pgtypes import required

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    import asyncpg

    from rapport.messaging.lease import Lease
    from rapport.pgtypes import Connection

FIRST_SNAPSHOT = "3:3:"
CHUNK = 2_000

LAST = "select * from rapport.tick order by number desc limit 1"
LIST = "select * from rapport.tick where number >= $1 order by number limit 200"
FIND = "select * from rapport.tick where number = $1"
CONTAINING = """
select * from rapport.tick where after[$1] >= $2 and before[$1] < $2 order by number limit 1
"""
FIRST_LACKING = """
select min(number) from rapport.tick t where exists (
    select 1 from unnest(t.after, $1::bigint[]) u(made, seen) where u.made > coalesce(u.seen, 0))
"""
CLUSTER = """
select (select system_identifier::text from pg_control_system()) as system_identifier,
    (select timeline_id from pg_control_checkpoint()) as timeline
"""
XMAX = "select pg_snapshot_xmax(pg_current_snapshot())::text"
NEW_ROWS = "select rapport.has_new_rows($1::text::xid8, $2::text[]::xid8[])"
CUT = """
with counted as (
    select (hash % $5::int)::int as partition, count(*) as rows from (
        select hash from rapport.outbox where xid >= $1::text::xid8
        union all
        select hash from rapport.outbox where xid = any($2::text[]::xid8[])
    ) fresh group by 1
), numbered as (
    select array_agg(b.number + coalesce(c.rows, 0) order by b.place) as after,
        coalesce(sum(c.rows), 0) as rows
    from unnest($7::bigint[]) with ordinality b(number, place)
        left join counted c on c.partition = b.place - 1
)
insert into rapport.tick
    (number, snapshot, system_identifier, timeline, epoch, partitions, before, after, token, holder)
select $3, pg_current_snapshot()::text, $4, $6, $8, $5, $7, after, $9, $10
from numbered where rows > 0
returning *
"""
COLUMNS = """
event_id, key, hash, contacts, type, occurred_at, body, trace, cause_id, cause_hash, causal, number
"""
ROWS = f"""
select {COLUMNS} from rapport.outbox
where xid >= $1::text::xid8 and xid < $2::text::xid8 and xid <> all($3::text[]::xid8[])
union all
select {COLUMNS} from rapport.outbox where xid = any($4::text[]::xid8[])
order by number
"""  # noqa: S608  constants only


class TickRefusedError(Exception):
    """This database is not the one that cut the last tick; publishing would go wrong silently."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`pg_snapshot` as text `xmin:xmax:xip,xip`: which transactions had finished."""

    xmax: int
    running: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> Snapshot:
        """Read Postgres's text form."""
        _, xmax, running = text.split(":")
        return cls(int(xmax), tuple(int(x) for x in running.split(",") if x))


@dataclass(frozen=True, slots=True)
class Tick:
    """A durable border; `before` and `after` hold the last number per partition."""

    number: int
    snapshot: Snapshot
    system_identifier: str
    timeline: int
    epoch: int
    partitions: int
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many rows it numbers."""
        return sum(self.after) - sum(self.before)

    @classmethod
    def of(cls, row: asyncpg.Record) -> Tick:
        """Read a row of `rapport.tick`."""
        return cls(
            row["number"],
            Snapshot.parse(row["snapshot"]),
            row["system_identifier"],
            row["timeline"],
            row["epoch"],
            row["partitions"],
            tuple(row["before"]),
            tuple(row["after"]),
        )

    @classmethod
    def zero(cls, system_identifier: str, timeline: int, partitions: int) -> Tick:
        """Return the tick before the first: nothing was published."""
        nothing = (0,) * partitions
        first = Snapshot.parse(FIRST_SNAPSHOT)
        return cls(0, first, system_identifier, timeline, 1, partitions, nothing, nothing)


async def read_cluster(connection: Connection) -> tuple[str, int]:
    """Return the cluster's system identifier and timeline; an ordinary role may ask."""
    row = required(await connection.fetchrow(CLUSTER))
    return row["system_identifier"], row["timeline"]


async def find_last(connection: Connection, partitions: int) -> Tick:
    """Return the last tick, or tick zero; raises TickRefusedError for another cluster's.

    A cluster whose transaction counter is behind the tick's snapshot is another one as well: new
    rows would count as published long ago, and nothing would be sent, silently.
    """
    system_identifier, timeline = await read_cluster(connection)
    row = await connection.fetchrow(LAST)
    if row is None:
        return Tick.zero(system_identifier, timeline, partitions)
    tick = Tick.of(row)
    if tick.system_identifier != system_identifier:
        msg = (
            f"tick {tick.number} was cut on cluster {tick.system_identifier}, this is "
            f"{system_identifier}: a restored copy must not publish; run `rapport stream fork`"
        )
        raise TickRefusedError(msg)
    if tick.partitions != partitions:
        msg = f"tick {tick.number} has {tick.partitions} partitions, the settings say {partitions}"
        raise TickRefusedError(msg)
    xmax = int(await connection.fetchval(XMAX))
    if xmax < tick.snapshot.xmax:
        msg = (
            f"tick {tick.number} was cut at xmax {tick.snapshot.xmax}, this cluster is at {xmax}: "
            "a restored copy must not publish; run `rapport stream fork`"
        )
        raise TickRefusedError(msg)
    return tick


async def cut(connection: Connection, lease: Lease, last: Tick) -> Tick | None:
    """Cut the tick after `last` if there are rows for it: lock the lease, then take the snapshot.

    Raises LeaseLostError.
    """
    running = [str(xid) for xid in last.snapshot.running]
    if not await connection.fetchval(NEW_ROWS, str(last.snapshot.xmax), running):
        return None
    async with connection.transaction():
        await lease.check(connection)
        row = await connection.fetchrow(
            CUT,
            str(last.snapshot.xmax),
            running,
            last.number + 1,
            last.system_identifier,
            last.partitions,
            last.timeline,
            list(last.after),
            last.epoch,
            lease.token,
            lease.holder,
        )
        return None if row is None else Tick.of(row)


def ranges(previous: Snapshot, current: Snapshot) -> tuple[str, str, list[str], list[str]]:
    """Return the statement's exact index ranges for the rows between two snapshots."""
    finished = sorted(set(previous.running) - set(current.running))
    return (
        str(previous.xmax),
        str(current.xmax),
        [str(xid) for xid in current.running],
        [str(xid) for xid in finished],
    )


async def list_rows(
    connection: Connection, previous: Snapshot, tick: Tick
) -> AsyncIterator[Sequence[Any]]:
    """Yield the tick's rows in identity order, in chunks; large ticks through a cursor."""
    bounds = ranges(previous, tick.snapshot)
    if tick.size <= CHUNK:
        yield await connection.fetch(ROWS, *bounds)
        return
    async with connection.transaction():
        await connection.execute("set local transaction_timeout = 0")
        cursor = await connection.cursor(ROWS, *bounds)
        while rows := await cursor.fetch(CHUNK):
            yield rows


async def snapshot_before(connection: Connection, tick: Tick) -> Snapshot:
    """Return the snapshot of the tick's predecessor."""
    row = await connection.fetchrow(FIND, tick.number - 1)
    return Snapshot.parse(row["snapshot"] if row else FIRST_SNAPSHOT)
