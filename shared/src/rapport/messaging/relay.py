"""The relay: cuts ticks, numbers their rows and sends them, from the lease holder only.

Nothing is sent before its tick is durable. On any error the producer is abandoned and everything
from the lowest unacknowledged number to the end is sent again, so a relay that wakes up late can
only repeat numbers.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import structlog

from rapport import metrics, telemetry
from rapport.database import connect
from rapport.messaging import tail, tick
from rapport.messaging.lease import LeaseLostError
from rapport.messaging.numbering import Numbering
from rapport.messaging.wire import Wire
from rapport.pgtypes import required

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rapport.messaging.lease import Lease
    from rapport.messaging.tick import Tick
    from rapport.pgtypes import Connection

log = structlog.get_logger()

BUSY_POLL_SECONDS = 0.02
IDLE_POLL_SECONDS = 0.25
BUSY_SECONDS = 5.0
LAGGING_TICK_SECONDS = 1.0
MARK_SECONDS = 1.0
CANCEL_AGAIN_SECONDS = 0.2
LEAVING_SECONDS = 1.0
BACKOFF_SECONDS = (0.1, 0.5, 1.0, 2.0)

READ_MARK = "select tick, acknowledged from rapport.relay_progress"
WRITE_MARK = "update rapport.relay_progress set tick = $1, acknowledged = $2"
PLANS = """
set enable_seqscan = off; set enable_bitmapscan = off; set synchronous_commit = on;
set plan_cache_mode = auto
"""


class Relay:
    """Publishes one service's outbox as its stream. `wake` is set after local commits."""

    def __init__(self, dsn: str, bootstrap: str, stream: str, partitions: int) -> None:
        self.dsn = dsn
        self.bootstrap = bootstrap
        self.stream = stream
        self.partitions = partitions
        self.wake = asyncio.Event()
        self.cut: Tick | None = None
        self.sent = 0
        self.acknowledged: list[int] = [0] * partitions
        self.fork: str | None = None
        self._news = asyncio.Event()
        self._caught_up = asyncio.Event()
        self._marked = 0.0
        self._marking: Connection | None = None
        self._mark_written: tuple[int, list[int]] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def lead(self, lease: Lease) -> None:
        """Publish while the lease holds. Raises LeaseLostError; stops for good on a fork."""
        failures = 0
        while True:
            started = time.monotonic()
            try:
                await self._lead(lease)
            except (LeaseLostError, asyncio.CancelledError):
                raise
            except (tail.ForkError, tick.TickRefusedError) as error:
                self.fork = str(error)
                log.critical("stream_forked", stream=self.stream, error=str(error))
                raise
            except Exception as error:  # noqa: BLE001  Postgres or Kafka is away: try again
                failures = 0 if time.monotonic() - started > BUSY_SECONDS else failures + 1
                log.warning("relay_failed", stream=self.stream, error=repr(error))
                await asyncio.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])

    async def _lead(self, lease: Lease) -> None:
        cutting = await connect(self.dsn, "rapport-tick")
        sending = await connect(self.dsn, "rapport-relay")
        self._marking = await connect(self.dsn, "rapport-mark")
        try:
            for connection in (cutting, sending):
                await connection.execute(PLANS)
            self.cut = await tick.find_last(cutting, self.partitions)
            await self._read_mark(sending)
            tasks = [
                asyncio.create_task(self._cut_ticks(cutting, lease), name="cut"),
                asyncio.create_task(self._send_ticks(sending, lease), name="send"),
            ]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
                for task in done:
                    task.result()
            finally:
                await _end(tasks)
                await self._mark_leaving()
        finally:
            for connection in (cutting, sending, self._marking):
                connection.terminate()

    async def _read_mark(self, connection: Connection) -> None:
        row = required(await connection.fetchrow(READ_MARK))
        self.acknowledged = list(row["acknowledged"]) or [0] * self.partitions
        self.sent = row["tick"]

    async def _cut_ticks(self, connection: Connection, lease: Lease) -> None:
        busy_until = 0.0
        while True:
            self.wake.clear()
            assert self.cut is not None  # noqa: S101  set before this task starts
            cut = await tick.cut(connection, lease, self.cut)
            if cut is not None:
                self.cut = cut
                busy_until = time.monotonic() + BUSY_SECONDS
                self._caught_up.clear()
                self._news.set()
                await _wait(self._caught_up, LAGGING_TICK_SECONDS)
                continue
            busy = time.monotonic() < busy_until
            await _wait(self.wake, BUSY_POLL_SECONDS if busy else IDLE_POLL_SECONDS)

    async def _send_ticks(self, connection: Connection, lease: Lease) -> None:
        failures = 0
        while True:
            wire = Wire(self.bootstrap, self.stream, self.acknowledged)
            try:
                await wire.start()
                await self._check_tail(connection, lease)
                failures = 0
                await self._send_until_error(connection, wire)
            except (tail.ForkError, LeaseLostError):
                raise
            except Exception as error:
                if connection.is_closed():
                    raise
                log.warning("producer_failed", stream=self.stream, error=repr(error))
                await asyncio.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
                failures += 1
            finally:
                self._abandon(wire)

    def _abandon(self, wire: Wire) -> None:
        closing = asyncio.create_task(wire.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _check_tail(self, connection: Connection, lease: Lease) -> None:
        """Compare Kafka's last records with the ticks, and find where sending starts.

        Records beyond the last tick are a fork only while the lease holds: they may as well be
        those of the one who took it over.
        """
        found = await tail.read(self.bootstrap, self.stream, self.partitions)
        assert self.cut is not None  # noqa: S101  set before this task starts
        try:
            agreed = await tail.compare(connection, self.cut, self.acknowledged, found)
        except tail.ForkError:
            async with connection.transaction():
                await lease.check(connection)
            raise
        self.fork = None
        self.acknowledged[:] = agreed
        first = await connection.fetchval(tick.FIRST_LACKING, self.acknowledged)
        self.sent = self.cut.number if first is None else first - 1

    async def _send_until_error(self, connection: Connection, wire: Wire) -> None:
        while True:
            self._news.clear()
            rows = await connection.fetch(tick.LIST, self.sent + 1)
            for row in rows:
                await self._send_tick(connection, wire, tick.Tick.of(row))
            if rows:
                continue
            await wire.settle()
            await self._mark()
            self._caught_up.set()
            await _wait(self._news, MARK_SECONDS)

    async def _send_tick(self, connection: Connection, wire: Wire, cut: Tick) -> None:
        previous = await tick.snapshot_before(connection, cut)
        numbering = Numbering(self.stream, cut)
        metrics.observe_tick_size(cut.size)
        async for rows in tick.list_rows(connection, previous, cut):
            links = [row["trace"] for row in rows] if telemetry.enabled() else []
            with telemetry.send_span(self.stream, links, count=len(rows)):
                for row in rows:
                    record = numbering.record(row)
                    if record.number > self.acknowledged[record.partition]:
                        await wire.add(*record)
            await self._mark()
        if tuple(numbering.last) != cut.after:
            msg = f"tick {cut.number}: rows give {numbering.last}, it says {list(cut.after)}"
            raise tail.ForkError(msg)
        await wire.flush()
        self.sent = cut.number
        await self._mark()

    async def _mark(self, *, leaving: bool = False) -> None:
        """Note what is acknowledged, at most once a second; a large tick is marked on its way."""
        mark = (self.sent, list(self.acknowledged))
        due = leaving or time.monotonic() - self._marked >= MARK_SECONDS
        if self._marking is not None and due and mark != self._mark_written:
            self._marked = time.monotonic()
            await self._marking.execute(WRITE_MARK, *mark)
            self._mark_written = mark

    async def _mark_leaving(self) -> None:
        """Spare the successor the resend of the last second, if Postgres answers."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(LEAVING_SECONDS):
                await self._mark(leaving=True)


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel until they end: aiokafka's `wait_for` of Python 3.11 can swallow a cancellation."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=CANCEL_AGAIN_SECONDS)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
