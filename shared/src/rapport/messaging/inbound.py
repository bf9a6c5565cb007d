"""Reads `inbound.events.v1`, which other systems publish to and number nothing.

A position row holds the next offset and the last record's (source, id). Bad records go to
`rejected_record` with a reason; nothing behind them waits.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import structlog
from aiokafka import TopicPartition

from rapport import metrics, telemetry
from rapport.contracts.registry import INBOUND
from rapport.messaging import failure, parking
from rapport.messaging.arrivals import Arrivals, Place
from rapport.messaging.cloudevents import from_kafka
from rapport.messaging.inbox import External, Outcome, Rejection
from rapport.messaging.parking import Rejected
from rapport.messaging.subscriber import group_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from aiokafka import AIOKafkaConsumer, ConsumerRecord

    from rapport.database import Database
    from rapport.messaging.transaction import Tx

    Accept = Callable[[Sequence[External], Tx], Awaitable[list[Outcome]]]

log = structlog.get_logger()

GROUP = group_of("contacts", INBOUND)
IDLE_SECONDS = 0.25
RETRY_MAX_SECONDS = 5.0
ALONE_ATTEMPTS = 3
REJECTED_MOST = 5
REJECTED_WINDOW_SECONDS = 60.0

FIND = """
select partition, kafka_offset, last_source, last_id from rapport.position
where stream = $1 and partition = any($2::int[])
"""
LOCK = """
select partition, kafka_offset from rapport.position
where stream = $1 and partition = any($2::int[]) order by partition for no key update
"""
MOVE = """
update rapport.position p set kafka_offset = u.kafka_offset,
    last_source = u.source, last_id = u.id
from unnest($2::int[], $3::bigint[], $4::text[], $5::text[]) u(partition, kafka_offset, source, id)
where p.stream = $1 and p.partition = u.partition
"""


class OffsetMovedError(Exception):
    """Another replica has moved the offset: read it again."""


class InboundRunner:
    """Queues raw records per partition and accepts them in transactions over the queues' heads."""

    def __init__(
        self, database: Database, accept: Accept, *, batch_size: int, queue_size: int
    ) -> None:
        self.database = database
        self.accept = accept
        self.batch_size = batch_size
        self.queue_size = queue_size
        self.consumer: AIOKafkaConsumer | None = None
        self.assigned: set[int] = set()
        self.queues: dict[int, Arrivals] = {}
        self.last_loop = time.monotonic()
        self._reread: set[int] = set()
        self._wake = asyncio.Event()
        self._busy = asyncio.Lock()
        self._stopping = False
        self._limit = batch_size
        self._attempts = 0
        self._rejected: deque[float] = deque(maxlen=REJECTED_MOST)

    def enqueue(self, records: Iterable[ConsumerRecord]) -> None:
        """Queue raw records of partitions whose place is known."""
        if telemetry.enabled():
            records = list(records)
            with telemetry.poll_span(INBOUND, map(_trace_of, records), count=len(records)):
                pass
        for record in records:
            queue = self.queues.get(record.partition)
            if queue is not None:
                queue.add(record)
                if queue.is_full(self.queue_size) and not queue.paused:
                    self._set_paused(record.partition, queue, paused=True)
        self._wake.set()

    async def revoke(self, partitions: Sequence[int]) -> None:
        """Forget partitions after the running transaction."""
        async with self._busy:
            for partition in partitions:
                self.assigned.discard(partition)
                self.queues.pop(partition, None)

    def assign(self, consumer: AIOKafkaConsumer, partitions: Sequence[int]) -> None:
        """Take over partitions: the loop reads their places and seeks."""
        self.consumer = consumer
        self.assigned.update(partitions)
        self._wake.set()

    def is_located(self) -> bool:
        """Tell whether every assigned partition's place is known."""
        return self.assigned <= self.queues.keys()

    async def run(self) -> None:
        """Accept what is queued until `stop`."""
        failures = 0
        while not self._stopping:
            self.last_loop = time.monotonic()
            try:
                await self._locate()
                if not await self._step():
                    await self._pause_loop()
                failures = 0
            except asyncio.CancelledError:
                raise
            except OffsetMovedError:
                self.queues.clear()
            except Exception as error:  # noqa: BLE001  the database is away: try again
                failures += 1
                log.warning("inbound_failed", error=repr(error)[:500])
                await asyncio.sleep(min(RETRY_MAX_SECONDS, 0.1 * 2 ** min(failures, 9)))

    async def stop(self) -> None:
        """Finish the running transaction, then end the loop."""
        self._stopping = True
        self._wake.set()
        async with self._busy:
            pass

    async def _locate(self) -> None:
        new = sorted(self.assigned - self.queues.keys())
        if not new or self.consumer is None:
            return
        async with self.database.pool.acquire() as connection:
            rows = await connection.fetch(FIND, INBOUND, new)
        places = [TopicPartition(INBOUND, p) for p in new]
        starts = await self.consumer.beginning_offsets(places)
        ends = await self.consumer.end_offsets(places)
        mine = self.consumer.assignment()
        for row in rows:
            place = TopicPartition(INBOUND, row["partition"])
            if place.partition in self.assigned and place in mine:
                self._seek(place, Place(*list(row.values())[1:]), starts[place], ends[place])

    def _seek(self, place: TopicPartition, known: Place, start: int, end: int) -> None:
        """Read on where the database stands, or from the start of a log that does not fit it."""
        assert self.consumer is not None  # noqa: S101  asked by the caller
        partition, first = place.partition, known.offset
        if start > first:
            lost = start - first
            log.error("inbound_records_lost", partition=partition, count=lost, first=first)
            first = start
        elif end < first or partition in self._reread:
            log.error(
                "inbound_log_replaced", partition=partition, known=first, start=start, end=end
            )
            first = start
        self._reread.discard(partition)
        verify = first == known.offset > start
        self.queues[partition] = Arrivals(known, first, verify=verify)
        self.consumer.seek(place, first - 1 if verify else first)
        self.consumer.resume(place)

    async def _step(self) -> bool:
        async with self._busy:
            records = self._heads()
            if not records:
                return False
            try:
                await self._accept(records)
            except OffsetMovedError:
                raise
            except Exception as error:
                if not await self._failed(records, error):
                    raise
            else:
                self._take(records)
                self._limit, self._attempts = self.batch_size, 0
            return True

    def _heads(self) -> list[ConsumerRecord]:
        records: list[ConsumerRecord] = []
        for partition, queue in list(self.queues.items()):
            if queue.replaced:
                self._reread.add(partition)
                del self.queues[partition]
                continue
            left = self._limit - len(records)
            records.extend(islice(queue.records, left))
        return records

    def _take(self, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            key = _key_of(from_kafka(record.headers, record.value))
            self.queues[record.partition].take(Place(record.offset + 1, *key))
        for partition, queue in self.queues.items():
            if queue.paused and queue.is_half_empty(self.queue_size):
                self._set_paused(partition, queue, paused=False)
        # A different one goes first next time.
        first = records[0].partition
        self.queues[first] = self.queues.pop(first)

    async def _accept(self, records: Sequence[ConsumerRecord], internal: str | None = None) -> None:
        """Accept the records in one transaction; `internal` rejects them all for that reason."""
        parsed = [from_kafka(record.headers, record.value) for record in records]
        events = [p for p in parsed if isinstance(p, External)] if internal is None else []

        async def body(tx: Tx) -> None:
            await self._lock(tx, records)
            links = [event.trace for event in events]
            with telemetry.batch_span(INBOUND, GROUP, len(events), links) as span:
                traced = (
                    _traced(records, parsed, span)
                    if telemetry.enabled() and internal is None
                    else events
                )
                outcomes = iter(await self.accept(traced, tx) if traced else ())
            rejected = []
            for record, item in zip(records, parsed, strict=True):
                source, event_id = _key_of(item)
                reason, field = internal, None
                if isinstance(item, Rejection):
                    reason, field = item.reason, item.field
                elif internal is None:
                    outcome = next(outcomes)
                    if outcome.status == "rejected":
                        reason, field = outcome.reason or "rejected", outcome.field
                if reason is not None:
                    rejected.append(Rejected(record, reason, field, source, event_id))
            await parking.reject(tx.connection, rejected)
            metrics.count_rejected(len(rejected))
            await self._move(tx, records)

        await self.database.transact(body)

    async def _lock(self, tx: Tx, records: Sequence[ConsumerRecord]) -> None:
        partitions = sorted({record.partition for record in records})
        rows = await tx.fetch(LOCK, INBOUND, partitions)
        for row in rows:
            if row["kafka_offset"] != self.queues[row["partition"]].place.offset:
                raise OffsetMovedError

    async def _move(self, tx: Tx, records: Sequence[ConsumerRecord]) -> None:
        last = {record.partition: record for record in records}
        keys = [_key_of(from_kafka(r.headers, r.value)) for r in last.values()]
        await tx.execute(
            MOVE,
            INBOUND,
            list(last),
            [record.offset + 1 for record in last.values()],
            [source for source, _ in keys],
            [event_id for _, event_id in keys],
        )

    async def _failed(self, records: Sequence[ConsumerRecord], error: Exception) -> bool:
        """Halve down to one record; one that fails alone three times is rejected, a few a minute.

        More than that is the handler's fault, not the data's: then it is tried for ever.
        """
        verdict = failure.classify(error)
        log.warning("inbound_batch_failed", events=len(records), error=repr(error)[:500])
        if verdict is failure.Verdict.RETRY:
            return False
        if len(records) > 1:
            self._limit = max(1, len(records) // 2)
            return True
        self._attempts += 1
        now = time.monotonic()
        recent = [at for at in self._rejected if now - at < REJECTED_WINDOW_SECONDS]
        too_many = len(recent) >= REJECTED_MOST
        if verdict is failure.Verdict.HALVE or self._attempts < ALONE_ATTEMPTS or too_many:
            return False
        self._rejected.append(now)
        await self._accept(records, f"internal: {failure.describe(error)}")
        self._take(records)
        self._attempts = 0
        return True

    async def _pause_loop(self) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _set_paused(self, partition: int, queue: Arrivals, *, paused: bool) -> None:
        place = TopicPartition(INBOUND, partition)
        if self.consumer is None or place not in self.consumer.assignment():
            return
        if paused:
            self.consumer.pause(place)
        else:
            self.consumer.resume(place)
        queue.paused = paused


@dataclass(frozen=True, slots=True)
class _Arrival:
    """An external event as telemetry sees it."""

    id: str
    type: str
    partition: int
    offset: int
    trace: str | None


def _traced(
    records: Sequence[ConsumerRecord], parsed: Sequence[object], span: telemetry.Batch
) -> list[External]:
    """Give each event the context of its own span: the sender's trace goes on, or one begins."""
    traced = []
    for record, event in zip(records, parsed, strict=True):
        if isinstance(event, External):
            place = (record.partition, record.offset)
            arrival = _Arrival(event.id, event.type, *place, event.trace)
            trace = span.process(arrival, root=event.trace is None)
            traced.append(replace(event, trace=trace))
    return traced


def _trace_of(record: ConsumerRecord) -> str | None:
    """Return the trace of a record that was not read yet, if its headers name one."""
    for name, value in record.headers:
        if name.lower() in {"traceparent", "ce_traceparent"}:
            return str((value or b"").decode("ascii", "replace"))
    return None


def _key_of(item: Any) -> tuple[str | None, str | None]:  # noqa: ANN401  External or Rejection
    return item.source, item.id
