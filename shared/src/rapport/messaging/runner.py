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

from rapport import metrics, telemetry
from rapport.database import connect
from rapport.messaging import failure, position
from rapport.messaging.backlog import Backlog, Foreign
from rapport.messaging.batch import Batch, Condemned, PositionMovedError
from rapport.messaging.envelope import ForeignRecordError, parse
from rapport.messaging.failure import BatchDeadlineError, Verdict

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
ALARM_SECONDS = 30.0
ALONE_ATTEMPTS = 3
ALONE_DELAYS = (0.1, 0.5, 1.0)
RETRY_MAX_SECONDS = 5.0
STOPPED_MAX_SECONDS = 60.0
COMMIT_SECONDS = 1.0
PAUSE_ABOVE = 1.0
RESUME_BELOW = 0.5
RESUMED = "select partition from rapport.position where stream = $1 and resume"


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
        self.consumer: AIOKafkaConsumer | None = None
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
        self._committed: dict[int, int] = {}
        self._commit_at = 0.0
        self._committing: set[asyncio.Task[None]] = set()
        self._alarmed: dict[int, float] = {}

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
                backlog.queue.append(Foreign(record, error.reason, error.field))
            else:
                backlog.queue.append(envelope)
                traces.append(envelope.trace)
            if len(backlog.queue) >= self.settings.queue_size * PAUSE_ABOVE:
                self._pause(record.partition, backlog)
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
                self._committed.pop(partition, None)

    def assign(self, consumer: AIOKafkaConsumer, partitions: Sequence[int]) -> None:
        """Take over partitions: the loop reads their positions and seeks."""
        self.consumer = consumer
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
                if not await self._step(connection):
                    await self._pause_loop(connection)
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
            await self._commit(force=True)

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
            self._resume_reading()
            await self._commit(force=False)
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
            self._alarm(partition, backlog)
            if not segment.taken:
                continue
            segments.append(segment)
            left -= len(segment.events)
            if partition in self._isolated:
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
            self._measure(segments, outcome, time.monotonic() - started)

    def _measure(self, segments: list[Segment], outcome: Outcome, seconds: float) -> None:
        events = sum(len(s.events) for s in segments)
        metrics.observe_batch(self.stream, seconds, events, outcome.waves)
        now = time.time()
        for s in segments:
            ages = [now - e.timestamp / 1000 for e in s.events]
            metrics.observe_effect_durations(self.stream, s.partition, ages)
            metrics.count_consumed(self.stream, s.partition, len(s.events) + s.skipped)
        for partition, parked in outcome.parked.items():
            metrics.count_parked(self.stream, partition, parked)

    def _batch(self, segments: list[Segment]) -> Batch:
        return Batch(
            self.stream,
            segments,
            self.decoders,
            self.clock,
            self.settings.partitions,
            self.settings.worker,
            attempts={s.partition: self.backlogs[s.partition].attempts for s in segments},
        )

    async def _execute(self, connection: Connection, batch: Batch) -> Outcome:
        try:
            async with asyncio.timeout(BATCH_DEADLINE_SECONDS):
                return await batch.execute(connection)
        except TimeoutError as error:
            await self._disconnect()
            raise BatchDeadlineError from error

    def _succeeded(self, segments: list[Segment], outcome: Outcome) -> None:
        for segment in segments:
            backlog = self.backlogs[segment.partition]
            backlog.adopt(segment)
            backlog.position.stopped = outcome.stopped.get(segment.partition)
            if segment.number >= backlog.suspect:
                backlog.limit = self.settings.batch_size
                self._isolated.discard(segment.partition)
            if backlog.position.stopped:
                backlog.limit = 1
                log.critical(
                    "partition_stopped",
                    stream=self.stream,
                    partition=segment.partition,
                    error=backlog.position.stopped,
                    next_action="mend the handler; it goes on by itself",
                )
            self.reached[self.stream, segment.partition] = (segment.position.epoch, segment.number)
        if outcome.published:
            self.on_published()
        self.on_applied()

    async def _adopt_positions(self, connection: Connection) -> None:
        """Another replica moved on: take its positions; numbers decide about what is queued."""
        found = await position.find_positions(connection, self.stream, list(self.backlogs))
        for partition, row in found.items():
            self.backlogs[partition].position = row
        self.reached.update(await position.list_reached(connection))

    async def _failed(
        self, connection: Connection, segments: list[Segment], error: Exception
    ) -> None:
        verdict = failure.classify(error)
        state = getattr(error, "sqlstate", None)
        log.warning(
            "batch_failed",
            stream=self.stream,
            partitions=[s.partition for s in segments],
            events=sum(len(s.events) for s in segments),
            verdict=verdict.value,
            sqlstate=state,
            error=_describe(error),
        )
        if self._connection is None or connection.is_closed() or (state or "")[:2] == "57":
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
        if backlog.position.stopped:
            self._back_off(backlog, STOPPED_MAX_SECONDS)
        elif verdict is not Verdict.PARK:
            self._back_off(backlog, RETRY_MAX_SECONDS)
        elif backlog.attempts < ALONE_ATTEMPTS:
            backlog.postpone(ALONE_DELAYS[backlog.attempts - 1])
        else:
            await self._park(connection, segment, error)

    async def _park(self, connection: Connection, segment: Segment, error: Exception) -> None:
        backlog = self.backlogs[segment.partition]
        event = segment.events[0]
        batch = self._batch([segment])
        since = backlog.first_failed or datetime.now(UTC)
        batch.condemned = {event.id: Condemned(_describe(error), backlog.attempts, since)}
        try:
            outcome = await self._execute(connection, batch)
        except PositionMovedError:
            await self._adopt_positions(connection)
            return
        log.error(
            "event_parked",
            event_id=str(event.id),
            contact_id=str(event.key),
            stream=self.stream,
            partition=event.partition,
            sequence=event.number,
            attempts=backlog.attempts,
            first_failure=since.isoformat(),
            trace=event.trace,
            error=_describe(error),
            next_action="rapport parked show, mend, rapport parked redrive",
        )
        self._succeeded([segment], outcome)

    def _back_off(self, backlog: Backlog, most: float) -> None:
        backlog.postpone(min(most, max(0.1, backlog.delay * 2)))

    async def _pause_loop(self, connection: Connection) -> None:
        """Wait for records; look at the positions again while something waits for its cause."""
        self._wake.clear()
        waiting = any(b.waits_for for b in self.backlogs.values())
        if waiting:
            self.reached.update(await position.list_reached(connection))
        if any(b.position.stopped for b in self.backlogs.values()):
            for row in await connection.fetch(RESUMED, self.stream):
                if row["partition"] in self.backlogs:
                    self.backlogs[row["partition"]].not_before = 0.0
        now = time.monotonic()
        due = [b.not_before - now for b in self.backlogs.values() if b.queue and b.not_before > now]
        seconds = min([GATE_POLL_SECONDS if waiting else IDLE_SECONDS, *due])
        try:
            async with asyncio.timeout(max(0.001, seconds)):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _alarm(self, partition: int, backlog: Backlog) -> None:
        """Say, once in a while, what a partition has been waiting for."""
        now = time.monotonic()
        if self._alarmed.get(partition, 0.0) > now - ALARM_SECONDS:
            return
        if backlog.waits_for and now - backlog.waits_since > ALARM_SECONDS:
            self._alarmed[partition] = now
            log.error(
                "cause_missing",
                stream=self.stream,
                partition=partition,
                waits_for=":".join(map(str, backlog.waits_for)),
            )
        if backlog.gap_at is not None and now - backlog.gap_since > ALARM_SECONDS:
            self._alarmed[partition] = now
            log.error(
                "numbers_missing", stream=self.stream, partition=partition, first=backlog.gap_at
            )

    def _pause(self, partition: int, backlog: Backlog) -> None:
        place = TopicPartition(self.stream, partition)
        if self.consumer is not None and place in self.consumer.assignment():
            self.consumer.pause(place)
            backlog.paused = True

    def _resume_reading(self) -> None:
        for partition, backlog in self.backlogs.items():
            if backlog.paused and len(backlog.queue) <= self.settings.queue_size * RESUME_BELOW:
                place = TopicPartition(self.stream, partition)
                if self.consumer is not None and place in self.consumer.assignment():
                    self.consumer.resume(place)
                backlog.paused = False

    async def _commit(self, *, force: bool) -> None:
        """Tell Kafka where the database stands; only for others to see, nothing relies on it."""
        if self.consumer is None or (not force and time.monotonic() < self._commit_at):
            return
        self._commit_at = time.monotonic() + COMMIT_SECONDS
        offsets = {
            TopicPartition(self.stream, p): b.position.kafka_offset
            for p, b in self.backlogs.items()
            if b.position.kafka_offset > self._committed.get(p, 0)
        }
        if not offsets:
            return
        self._committed.update({place.partition: o for place, o in offsets.items()})
        committing = asyncio.create_task(_tell(self.consumer, offsets))
        self._committing.add(committing)
        committing.add_done_callback(self._committing.discard)
        if force:
            await committing


async def _tell(consumer: AIOKafkaConsumer, offsets: dict[TopicPartition, int]) -> None:
    try:
        await asyncio.wait_for(consumer.commit(offsets), COMMIT_SECONDS)
    except Exception as error:  # noqa: BLE001  advisory only
        log.info("offset_commit_failed", error=repr(error))


def _describe(error: BaseException) -> str:
    """Return the error's class and message, without the values that Postgres adds in `detail`."""
    return f"{type(error).__name__}: {error}"[:500]
