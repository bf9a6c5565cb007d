"""Durable timers: fired by the lease holder, up to the clock's `fire_until`."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from rapport import telemetry
from rapport.messaging import wave
from rapport.messaging.delivery import TimerDue

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    import asyncpg

    from rapport.database import Database
    from rapport.messaging.handler import TimerHandlers
    from rapport.messaging.transaction import Tx

log = structlog.get_logger()

BATCH = 500
TIMERS = "timers"
"""What spans call the place where timers come from."""
POLL_SECONDS = 0.25
BACKOFF_MAX_SECONDS = 60.0

# A parked contact's timers wait; after a merge the survivor's state counts as well.
IS_PARKED = """
exists (select 1 from rapport.key k join rapport.key s on s.id in (k.id, k.survivor)
    where k.id = t.contact_id and s.parked)
"""
LIST_DUE = f"""
select t.id, t.contact_id from rapport.timer t
where t.due_at <= $1 and t.id <> all($2::bigint[]) and t.kind = any($4::text[])
    and not {IS_PARKED}
order by t.due_at, t.id limit $3
"""  # noqa: S608  constants only
TAKE = f"""
delete from rapport.timer t
where t.id = any($1::bigint[]) and not {IS_PARKED}
returning t.id, t.kind, t.key, t.contact_id, t.due_at, t.payload, t.trace
"""  # noqa: S608  constants only


@dataclass(slots=True, eq=False)
class Fired:
    """A timer that this transaction took: an item of a wave, and as telemetry sees it."""

    due: TimerDue
    partition: None = None
    offset: None = None

    @property
    def id(self) -> UUID:
        """What its events name as their cause."""
        return self.due.cause_id

    @property
    def type(self) -> str:
        """The timer's kind."""
        return self.due.kind

    @property
    def kind(self) -> str:
        """The timer's kind."""
        return self.due.kind

    @property
    def trace(self) -> str | None:
        """What scheduled it."""
        return self.due.trace

    @property
    def canonical(self) -> tuple[UUID, ...]:
        """Its contact."""
        return (self.due.contact_id,)

    def begin(self, span: telemetry.Batch) -> None:
        """Let what it causes join a trace that begins now, linked to the one that scheduled it."""
        trace = span.process(self, root=True) if telemetry.enabled() else None
        self.due = replace(self.due, trace=trace)


class Timers:
    """Fires one service's timers. One that fails is tried again later, and said so."""

    def __init__(self, database: Database, handlers: TimerHandlers) -> None:
        self.database = database
        self.handlers = handlers
        self.wake = asyncio.Event()
        self._failing: dict[int, tuple[float, float]] = {}

    async def lead(self) -> None:
        """Fire what becomes due, until cancelled."""
        while True:
            self.wake.clear()
            try:
                fired = await self.fire_due()
            except Exception as error:  # noqa: BLE001  the database is away: try again
                log.warning("timers_failed", error=repr(error))
                fired = 0
            if fired:
                continue
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self.wake.wait()
            except TimeoutError:
                pass

    async def fire_due(self) -> int:
        """Fire one batch; return how many fired. A batch that fails is fired one by one."""
        now = time.monotonic()
        waiting = [i for i, (until, _) in self._failing.items() if until > now]
        async with self.database.pool.acquire() as connection:
            until = await self.database.clock.fire_until(connection)
            rows = await connection.fetch(LIST_DUE, until, waiting, BATCH, list(self.handlers))
        if not rows:
            return 0
        try:
            return await self._fire(rows)
        except Exception as error:  # noqa: BLE001  isolated below
            log.warning("timer_batch_failed", timers=len(rows), error=repr(error))
        return sum([await self._fire_alone(row) for row in rows])

    async def _fire_alone(self, row: asyncpg.Record) -> int:
        try:
            fired = await self._fire([row])
        except Exception as error:  # noqa: BLE001  it is tried again
            delay = min(BACKOFF_MAX_SECONDS, self._failing.get(row["id"], (0.0, 0.1))[1] * 2)
            self._failing[row["id"]] = (time.monotonic() + delay, delay)
            log.error(  # noqa: TRY400  the trace may hold row values
                "timer_failed",
                timer_id=row["id"],
                contact_id=str(row["contact_id"]),
                error=repr(error)[:500],
                retry_seconds=delay,
            )
            return 0
        self._failing.pop(row["id"], None)
        return fired

    async def _fire(self, rows: Sequence[asyncpg.Record]) -> int:
        ids = [row["id"] for row in rows]

        async def body(tx: Tx) -> int:
            await tx.lock_keys({row["contact_id"] for row in rows})
            taken = await tx.fetch(TAKE, ids)
            ordered = sorted(taken, key=lambda row: (row["due_at"], row["id"]))
            due = [Fired(_due(row, tx)) for row in ordered]
            await self._handle(due, tx)
            return len(due)

        return await self.database.transact(body)

    async def _handle(self, due: Sequence[Fired], tx: Tx) -> None:
        links = [fired.trace for fired in due]
        with telemetry.batch_span(TIMERS, TIMERS, len(due), links) as span:
            for fired in due:
                fired.begin(span)
            for cut in wave.cut(due, lambda _: False):
                for kind, members in cut.by_kind.items():
                    await self.handlers[kind]([m.due for m in members], tx)


def _due(row: asyncpg.Record, tx: Tx) -> TimerDue:
    contact_id = tx.locked[row["contact_id"]]
    return TimerDue(
        row["kind"], row["key"], contact_id, row["due_at"], row["payload"], row["trace"]
    )
