"""Outbox and batch log leave by dropping day partitions; writers wait for a moment at most.

Answers to Idempotency-Keys leave after a day, whatever the setting for the others says.

What creates and drops are functions that run as the schema's owner: the service's role cannot.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import structlog

from rapport import answers
from rapport.database import connect
from rapport.messaging.tick import Snapshot

if TYPE_CHECKING:
    from rapport.pgtypes import Connection
log = structlog.get_logger()

DAYS_AHEAD = 7
ATTEMPTS = 5
PAUSE_SECONDS = 1.0
LIST_OLD = """
select c.relname as name, p.relname as parent
from pg_class c join pg_inherits i on i.inhrelid = c.oid join pg_class p on p.oid = i.inhparent
    join pg_namespace n on n.oid = p.relnamespace
where n.nspname = 'rapport' and p.relname in ('outbox', 'batch_log') and p.relkind = 'p'
    and to_date(right(c.relname, 8), 'YYYYMMDD')
        < (clock_timestamp() at time zone 'UTC')::date - $1::int
order by 1
"""
SENT_MARK = "select tick from rapport.relay_progress"
SNAPSHOT_OF = "select snapshot from rapport.tick where number = $1"
OLD_TICKS = """
delete from rapport.tick where cut_at < clock_timestamp() - make_interval(days => $1 + 1)
    and number < (select tick from rapport.relay_progress)
"""


async def run(dsn: str, retention_days: int) -> list[str]:
    """Create partitions ahead, drop old ones; return the names of those dropped.

    An outbox partition goes only when every row's transaction is older than the last sent tick.
    One whose lock is not free within 200 ms, five times, stays until the next run.
    """
    connection = await connect(dsn, "rapport-retention")
    try:
        await connection.execute("set transaction_timeout = 0; set lock_timeout = '200ms'")
        await connection.execute(f"select rapport.ensure_partitions({DAYS_AHEAD})")
        old = await connection.fetch(LIST_OLD, retention_days)
        dropped = [row["name"] for row in old if await _drop(connection, *row)]
        await connection.execute(OLD_TICKS, retention_days)
        await answers.prune(connection)
    finally:
        await connection.close()
    if dropped:
        log.info("partitions_dropped", names=dropped)
    return dropped


async def _drop(connection: Connection, name: str, parent: str) -> bool:
    if parent == "outbox" and not await _is_sent(connection, name):
        log.error("partition_not_sent", name=name, next_action="check the relay")
        return False
    for attempt in range(ATTEMPTS):
        await asyncio.sleep(PAUSE_SECONDS if attempt else 0)
        try:
            await connection.execute("select rapport.drop_partition($1)", name)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            continue
        return True
    log.info("partition_busy", name=name)
    return False


async def _is_sent(connection: Connection, name: str) -> bool:
    last = await connection.fetchval(f'select max(xid)::text from rapport."{name}"')  # noqa: S608
    if last is None:
        return True
    tick = await connection.fetchval(SENT_MARK)
    text = await connection.fetchval(SNAPSHOT_OF, tick)
    if text is None:
        return False
    snapshot = Snapshot.parse(text)
    return int(last) < min([snapshot.xmax, *snapshot.running])
