"""What was read from one partition and is not applied yet, and where its head stands."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rapport.messaging import gate
from rapport.messaging.alias import MERGED
from rapport.messaging.envelope import Envelope
from rapport.messaging.position import Step, step

if TYPE_CHECKING:
    from datetime import datetime

    from aiokafka import ConsumerRecord

    from rapport.messaging.envelope import Entry
    from rapport.messaging.gate import Reached
    from rapport.messaging.position import Position


@dataclass(slots=True, eq=False)
class Foreign:
    """A record that is not ours, kept to be written to `rejected_record`."""

    record: ConsumerRecord
    reason: str
    field: str


@dataclass(slots=True, eq=False)
class Segment:
    """The ready prefix of a partition: applied in one transaction, then taken off the backlog."""

    position: Position
    events: list[Envelope] = field(default_factory=list)
    foreign: list[Foreign] = field(default_factory=list)
    skipped: int = 0
    discarded: int = 0
    taken: int = 0
    number: int = 0
    offset: int = 0

    @property
    def partition(self) -> int:
        """The partition's number."""
        return self.position.partition

    @property
    def moves(self) -> bool:
        """Whether a transaction is needed for it."""
        return bool(self.events or self.foreign)

    @property
    def alone(self) -> bool:
        """Whether it changes names of contacts, which needs a transaction of its own."""
        return len(self.events) == 1 and self.events[0].type == MERGED


@dataclass(eq=False)
class Backlog:
    """A partition's queue with the state of its head: not before, and why."""

    position: Position
    limit: int
    queue: deque[Envelope | Foreign] = field(default_factory=deque)
    paused: bool = False
    not_before: float = 0.0
    delay: float = 0.0
    attempts: int = 0
    refusals: int = 0
    first_failed: datetime | None = None
    suspect: int = 0
    waits_for: Entry | None = None
    waits_since: float = 0.0
    gap_at: int | None = None
    gap_since: float = 0.0
    refused: str | None = None
    alarmed_at: float | None = None
    bytes: int = 0

    def append(self, item: Envelope | Foreign) -> None:
        """Queue a record at the end."""
        self.queue.append(item)
        self.bytes += _size(item)

    def ready(self, size: int, reached: Reached, own_stream: str) -> Segment:
        """Return the longest prefix that may be applied now, at most `size` events."""
        position = self.position
        segment = Segment(position, number=position.number, offset=position.kafka_offset)
        size = min(size, self.limit)
        before = self.waits_for
        self.waits_for = None
        for item in self.queue:
            if isinstance(item, Foreign):
                segment.foreign.append(item)
                segment.offset = max(segment.offset, item.record.offset + 1)
            elif not self._take(item, segment, reached, own_stream):
                break
            segment.taken += 1
            if segment.alone or max(len(segment.events), len(segment.foreign)) >= size:
                break
        if self.waits_for != before:
            self.waits_since = time.monotonic()
        return segment

    def _take(self, item: Envelope, segment: Segment, reached: Reached, own_stream: str) -> bool:
        match step(self.position.epoch, segment.number, item.epoch, item.number):
            case Step.APPLY:
                if item.type == MERGED and segment.events:
                    return False
                unmet = gate.unmet(item, reached, own_stream)
                if unmet is not None:
                    self.waits_for = unmet
                    return False
                segment.events.append(item)
                segment.number = item.number
                segment.offset = max(segment.offset, item.offset + 1)
                self.gap_at = None
            case Step.SKIP | Step.DROP:
                segment.skipped += 1
                segment.offset = max(segment.offset, item.offset + 1)
            case Step.DISCARD:
                segment.discarded += 1
                if self.gap_at != segment.number + 1:
                    self.gap_at, self.gap_since = segment.number + 1, time.monotonic()
            case Step.REFUSE:
                self.refused = f"epoch {item.epoch} opened without its opening record"
                return False
        return True

    def drop(self, segment: Segment) -> None:
        """Take the segment's records off the queue."""
        for _ in range(segment.taken):
            self.bytes -= _size(self.queue.popleft())

    def adopt(self, segment: Segment) -> None:
        """Take note that the segment is committed."""
        self.drop(segment)
        self.position.number = segment.number
        self.position.kafka_offset = segment.offset
        self.forget_failures()

    def forget_failures(self) -> None:
        """Another record is at the head."""
        self.not_before = self.delay = 0.0
        self.attempts = self.refusals = 0
        self.first_failed = None

    def postpone(self, seconds: float) -> None:
        """Do not try the head again before so many seconds."""
        self.delay = seconds
        self.not_before = time.monotonic() + seconds


def _size(item: Envelope | Foreign) -> int:
    value = item.record.value if isinstance(item, Foreign) else item.value
    return len(value or b"")
