"""One runner per upstream stream: builds transactions from the heads of its partitions' queues.

Waiting for a cause, backing off after a failure and a stopped partition are one state on the
head: not before, and why. Reading never stops; a full queue pauses its partition.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog
from aiokafka import TopicPartition

from rapport import telemetry
from rapport.database import connect
from rapport.messaging import failure, parking, position, report
from rapport.messaging.backlog import Backlog, Foreign
from rapport.messaging.batch import Batch, Condemned, PositionMovedError
from rapport.messaging.envelope import ForeignRecordError, parse
from rapport.messaging.failure import BatchDeadlineError, Verdict
from rapport.messaging.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from aiokafka import AIOKafkaConsumer, ConsumerRecord

    from rapport.clock import Clock
    from rapport.messaging.backlog import Segment
    from rapport.messaging.batch import Decoders, Outcome
    from rapport.messaging.gate import Reached
    from rapport.pgtypes import Connection

log = structlog.get_logger()

BATCH_DEADLINE_SECONDS = 10.0
GATE_POLL_SECONDS = 0.02
IDLE_SECONDS = 0.25
ALONE_ATTEMPTS = 3
ALONE_DELAYS = (0.1, 0.5, 1.0)
RETRY_MAX_SECONDS = 5.0
STOPPED_MAX_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class RunnerSettings:
    """What the runners of one service share."""

    service: str
    dsn: str
    partitions: int
    batch_size: int
    queue_size: int
    worker: str


class Runner:
    """Applies one upstream stream. `reached` is shared by all runners of the service."""

    def __init__(
        self,
        stream: str,
        settings: RunnerSettings,
        decoders: Decoders,
        clock: Clock,
        reached: Reached,
    ) -> None:
        self.stream = stream
        self.settings = settings
        self.decoders = decoders
        self.clock = clock
        self.reached = reached
        self.own_stream = f"{settings.service}.events.v1"
        self.reading = Reading(stream, settings.queue_size)
        self.assigned: set[int] = set()
        self.backlogs: dict[int, Backlog] = {}
        self.on_published: Callable[[], None] = lambda: None
        self.on_applied: Callable[[], None] = lambda: None
        self.last_loop = time.monotonic()
        self._isolated: set[int] = set()
        self._connection: Connection | None = None
        self._wake = asyncio.Event()
        self._busy = asyncio.Lock()
        self._stopping = False
        self._reached_at = self._resumed_at = 0.0

    @property
    def consumer(self) -> AIOKafkaConsumer | None:
        """The subscriber's consumer, once partitions were assigned."""
        return self.reading.consumer

    # Called by the subscriber.

    def enqueue(self, records: Iterable[ConsumerRecord]) -> None:
        """Queue raw records; those of a partition without a position yet are read again later."""
        traces: list[str | None] = []
        for record in records:
            backlog = self.backlogs.get(record.partition)
            if backlog is None:
                continue
            try:
                envelope = parse(record)
            except ForeignRecordError as error:
                backlog.append(Foreign(record, error.reason, error.field))
            else:
                backlog.append(envelope)
                traces.append(envelope.trace)
            self.reading.pause_if_full(record.partition, backlog)
        if telemetry.enabled():
            with telemetry.poll_span(self.stream, traces, count=len(traces)):
                pass
        self._wake.set()

    async def revoke(self, partitions: Sequence[int]) -> None:
        """Forget partitions after the running transaction."""
        async with self._busy:
            for partition in partitions:
                self.assigned.discard(partition)
                self.backlogs.pop(partition, None)
                self.reading.forget(partition)

    def assign(self, consumer: AIOKafkaConsumer, partitions: Sequence[int]) -> None:
        """Take over partitions: the loop reads their positions and seeks."""
        self.reading.consumer = consumer
        self.assigned.update(partitions)
        self._wake.set()

    def is_located(self) -> bool:
        """Tell whether every assigned partition's position is known."""
        return self.assigned <= self.backlogs.keys()

    # The loop.

    async def run(self) -> None:
        """Apply what is queued until `stop`."""
        failures = 0
        while not self._stopping:
            self.last_loop = time.monotonic()
            try:
                connection = await self._connected()
                await self._locate(connection)
                moved = await self._step(connection)
                await self._look(connection)
                if not moved:
                    await self._pause_loop()
                failures = 0
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001  the database is away: try again
                failures += 1
                log.warning("runner_failed", stream=self.stream, error=repr(error))
                await self._disconnect()
                await asyncio.sleep(min(RETRY_MAX_SECONDS, 0.1 * 2 ** min(failures, 6)))
        await self._disconnect()

    async def stop(self) -> None:
        """Finish the running transaction, then end the loop."""
        self._stopping = True
        self._wake.set()
        async with self._busy:
            await self.reading.commit(self.backlogs, force=True)

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect(self.settings.dsn, f"rapport-{self.stream}")
        return self._connection

    async def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _locate(self, connection: Connection) -> None:
        """Read the positions of newly assigned partitions and seek to their offsets."""
        new = sorted(self.assigned - self.backlogs.keys())
        if not new or self.consumer is None:
            return
        found = await position.find_positions(connection, self.stream, new)
        self.reached.update(await position.list_reached(connection))
        mine = self.consumer.assignment()
        for partition, row in found.items():
            place = TopicPartition(self.stream, partition)
            if partition not in self.assigned or place not in mine:
                continue
            self.consumer.seek(place, row.kafka_offset)
            self.backlogs[partition] = Backlog(row, limit=self.settings.batch_size)

    async def _step(self, connection: Connection) -> bool:
        """Carry out one transaction if something is ready; tell whether anything moved."""
        async with self._busy:
            segments = self._assemble()
            if not segments:
                return False
            moving = [s for s in segments if s.moves]
            for segment in segments:
                if not segment.moves:
                    self.backlogs[segment.partition].adopt(segment)
            if moving:
                await self._attempt(connection, moving)
            self.reading.resume(self.backlogs)
            await self.reading.commit(self.backlogs, force=False)
            return True

    def _assemble(self) -> list[Segment]:
        now = time.monotonic()
        left = self.settings.batch_size
        segments: list[Segment] = []
        for partition, backlog in list(self.backlogs.items()):
            if not backlog.queue or backlog.not_before > now or backlog.refused or left <= 0:
                continue
            if partition in self._isolated and segments:
                continue
            segment = backlog.ready(left, self.reached, self.own_stream)
            report.waiting(self.stream, partition, backlog)
            if not segment.taken or (segment.alone and segments):
                continue
            segments.append(segment)
            left -= len(segment.events)
            if partition in self._isolated or segment.alone:
                break
        # A different one goes first next time.
        if segments and len(self.backlogs) > 1:
            first = segments[0].partition
            self.backlogs[first] = self.backlogs.pop(first)
        return segments

    async def _attempt(self, connection: Connection, segments: list[Segment]) -> None:
        batch = self._batch(segments)
        started = time.monotonic()
        try:
            outcome = await self._execute(connection, batch)
        except PositionMovedError:
            await self._adopt_positions(connection)
        except Exception as error:  # noqa: BLE001  classified there
            await self._failed(connection, segments, error)
        else:
            self._succeeded(segments, outcome)
            self.reading.note(batch.span)
            report.applied(self.stream, segments, outcome, time.monotonic() - started)

    def _batch(self, segments: list[Segment]) -> Batch:
        return Batch(
            self.stream,
            segments,
            self.decoders,
            self.clock,
            self.settings.partitions,
            self.settings.worker,
            self.settings.service,
            attempts={s.partition: self.backlogs[s.partition].attempts for s in segments},
        )

    async def _execute(self, connection: Connection, batch: Batch) -> Outcome:
        deadline = asyncio.timeout(BATCH_DEADLINE_SECONDS)
        try:
            async with deadline:
                return await batch.execute(connection)
        except Exception as error:
            if not deadline.expired():
                raise
            await self._disconnect()
            raise BatchDeadlineError from error

    def _succeeded(self, segments: list[Segment], outcome: Outcome) -> None:
        for segment in segments:
            backlog = self.backlogs[segment.partition]
            backlog.adopt(segment)
            was, stopped = backlog.position.stopped, outcome.stopped.get(segment.partition)
            backlog.position.stopped = stopped
            backlog.limit = min(self.settings.batch_size, 2 * backlog.limit)
            if segment.number >= backlog.suspect:
                backlog.limit = self.settings.batch_size
                self._isolated.discard(segment.partition)
            if stopped:
                backlog.limit = 1
                if not was:
                    report.stopped(self.stream, segment.partition, stopped)
            self.reached[self.stream, segment.partition] = (segment.position.epoch, segment.number)
        if outcome.published:
            self.on_published()
        self.on_applied()

    async def _adopt_positions(self, connection: Connection) -> None:
        """Another replica moved on: take its positions; numbers decide about what is queued."""
        found = await position.find_positions(connection, self.stream, list(self.backlogs))
        for partition, row in found.items():
            if row.number != self.backlogs[partition].position.number:
                self.backlogs[partition].forget_failures()
            self.backlogs[partition].position = row
        self.reached.update(await position.list_reached(connection))

    async def _failed(
        self, connection: Connection, segments: list[Segment], error: Exception
    ) -> None:
        verdict = failure.classify(error)
        state = getattr(error, "sqlstate", None) or ""
        if verdict is Verdict.PARK and connection.is_closed():
            verdict = Verdict.RETRY
        report.failed(self.stream, segments, verdict, error)
        if verdict is Verdict.RETRY and (connection.is_closed() or state.startswith("57P")):
            for segment in segments:
                self._back_off(self.backlogs[segment.partition], RETRY_MAX_SECONDS)
            raise error
        if len(segments) > 1:
            for segment in segments:
                self._isolated.add(segment.partition)
                self._suspect(segment)
            return
        segment = segments[0]
        backlog = self.backlogs[segment.partition]
        self._suspect(segment)
        if len(segment.events) > 1 and verdict is not Verdict.RETRY:
            backlog.limit = max(1, len(segment.events) // 2)
            return
        if len(segment.events) > 1:
            backlog.limit = max(1, len(segment.events) // 2)
            self._back_off(backlog, 0.5)
            return
        await self._failed_alone(connection, segment, verdict, error)

    def _suspect(self, segment: Segment) -> None:
        backlog = self.backlogs[segment.partition]
        backlog.suspect = max(backlog.suspect, segment.number)

    async def _failed_alone(
        self, connection: Connection, segment: Segment, verdict: Verdict, error: Exception
    ) -> None:
        backlog = self.backlogs[segment.partition]
        backlog.first_failed = backlog.first_failed or datetime.now(UTC)
        backlog.attempts += 1
        if verdict is Verdict.PARK:
            backlog.refusals += 1
        if backlog.position.stopped:
            self._back_off(backlog, STOPPED_MAX_SECONDS)
        elif verdict is not Verdict.PARK or not segment.events:
            self._back_off(backlog, RETRY_MAX_SECONDS)
        elif backlog.refusals < ALONE_ATTEMPTS:
            backlog.postpone(ALONE_DELAYS[backlog.refusals - 1])
        elif await parking.trips_breaker(connection, self.stream, segment.partition):
            await self._stop_partition(connection, segment, failure.describe(error))
        else:
            await self._park(connection, segment, error)

    async def _stop_partition(self, connection: Connection, segment: Segment, error: str) -> None:
        """Park nothing more: so many contacts failed a moment ago that it is the handler."""
        number = segment.position.number
        await connection.execute(position.STOP, self.stream, segment.partition, number, error)
        backlog = self.backlogs[segment.partition]
        backlog.position.stopped = error
        report.stopped(self.stream, segment.partition, error)
        self._back_off(backlog, STOPPED_MAX_SECONDS)

    async def _park(self, connection: Connection, segment: Segment, error: Exception) -> None:
        backlog = self.backlogs[segment.partition]
        event = segment.events[0]
        batch = self._batch([segment])
        since = backlog.first_failed or datetime.now(UTC)
        batch.condemned = {event.id: Condemned(failure.describe(error), backlog.attempts, since)}
        try:
            outcome = await self._execute(connection, batch)
        except PositionMovedError:
            await self._adopt_positions(connection)
            return
        report.parked(event, batch.condemned[event.id])
        self._succeeded([segment], outcome)

    def _back_off(self, backlog: Backlog, most: float) -> None:
        backlog.postpone(min(most, max(0.1, backlog.delay * 2)))

    async def _look(self, connection: Connection) -> None:
        """Look at the positions, however busy: something waits for its cause or is stopped."""
        if connection.is_closed():
            return
        now = time.monotonic()
        if now >= self._reached_at and any(b.waits_for for b in self.backlogs.values()):
            self._reached_at = now + GATE_POLL_SECONDS / 2
            self.reached.update(await position.list_reached(connection))
        stopped = [p for p, b in self.backlogs.items() if b.position.stopped]
        if stopped and now >= self._resumed_at:
            self._resumed_at = now + IDLE_SECONDS / 2
            for row in await connection.fetch(position.TAKE_RESUMED, self.stream, stopped):
                if row["partition"] in self.backlogs:
                    self.backlogs[row["partition"]].not_before = 0.0

    async def _pause_loop(self) -> None:
        """Wait for records, or until something may be tried again."""
        self._wake.clear()
        waiting = any(b.waits_for for b in self.backlogs.values())
        now = time.monotonic()
        due = [b.not_before - now for b in self.backlogs.values() if b.queue and b.not_before > now]
        seconds = min([GATE_POLL_SECONDS if waiting else IDLE_SECONDS, *due])
        try:
            async with asyncio.timeout(max(0.001, seconds)):
                await self._wake.wait()
        except TimeoutError:
            pass
