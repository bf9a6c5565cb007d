"""The consumer side of Kafka: bounded queues by pausing partitions, and advisory offset commits."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog
from aiokafka import TopicPartition

from rapport import metrics, telemetry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiokafka import AIOKafkaConsumer

    from rapport.messaging.backlog import Backlog

log = structlog.get_logger()

COMMIT_SECONDS = 1.0
QUEUE_BYTES = 4 * 1024 * 1024
"""A queue that holds more bytes than this is as full as one with too many records."""


class Reading:
    """Pauses and resumes the partitions of one stream and tells Kafka the offsets."""

    def __init__(self, stream: str, queue_size: int) -> None:
        self.stream = stream
        self.queue_size = queue_size
        self.consumer: AIOKafkaConsumer | None = None
        self._committed: dict[int, int] = {}
        self._traced: telemetry.Batch | None = None
        self._commit_at = 0.0
        self._committing: set[asyncio.Task[None]] = set()

    def forget(self, partition: int) -> None:
        """The partition belongs to somebody else now."""
        self._committed.pop(partition, None)

    def note(self, batch: telemetry.Batch) -> None:
        """Remember the last batch that is recorded: the next commit is shown as its child."""
        if batch.span is not None:
            self._traced = batch

    def pause_if_full(self, partition: int, backlog: Backlog) -> None:
        """Read no more of a partition whose queue is full."""
        full = len(backlog.queue) >= self.queue_size or backlog.bytes >= QUEUE_BYTES
        if not full or backlog.paused:
            return
        place = TopicPartition(self.stream, partition)
        if self.consumer is not None and place in self.consumer.assignment():
            self.consumer.pause(place)
            backlog.paused = True

    def resume(self, backlogs: Mapping[int, Backlog]) -> None:
        """Read on where a queue has become half empty."""
        for partition, backlog in backlogs.items():
            if (
                backlog.paused
                and len(backlog.queue) <= self.queue_size // 2
                and backlog.bytes <= QUEUE_BYTES // 2
            ):
                place = TopicPartition(self.stream, partition)
                if self.consumer is not None and place in self.consumer.assignment():
                    self.consumer.resume(place)
                backlog.paused = False

    async def commit(self, backlogs: Mapping[int, Backlog], *, force: bool) -> None:
        """Tell Kafka where the database stands; only for others to see, nothing relies on it."""
        if self.consumer is None or (not force and time.monotonic() < self._commit_at):
            return
        self._commit_at = time.monotonic() + COMMIT_SECONDS
        offsets = {
            TopicPartition(self.stream, p): b.position.kafka_offset
            for p, b in backlogs.items()
            if b.position.kafka_offset > self._committed.get(p, 0)
        }
        if not offsets:
            return
        self._committed.update({place.partition: o for place, o in offsets.items()})
        traced, self._traced = self._traced, None
        committing = asyncio.create_task(self._tell(self.consumer, offsets, traced))
        self._committing.add(committing)
        committing.add_done_callback(self._committing.discard)
        if force:
            await committing

    async def _tell(
        self,
        consumer: AIOKafkaConsumer,
        offsets: dict[TopicPartition, int],
        batch: telemetry.Batch | None,
    ) -> None:
        started = time.monotonic()
        try:
            with telemetry.commit_span(self.stream, batch):
                await asyncio.wait_for(consumer.commit(offsets), COMMIT_SECONDS)
            metrics.observe_operation("commit", self.stream, time.monotonic() - started)
        except Exception as error:  # noqa: BLE001  advisory only
            log.info("offset_commit_failed", error=repr(error))
