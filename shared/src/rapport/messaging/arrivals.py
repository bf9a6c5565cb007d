"""A queue of raw inbound records: bounded, in offset order, checked against the last one read."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from rapport.messaging.cloudevents import from_kafka

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

QUEUE_BYTES = 4 * 1024 * 1024


class Place(NamedTuple):
    """Where the database stands in a partition: next offset, and the last record's (source, id)."""

    offset: int
    source: str | None
    id: str | None


class Arrivals:
    """Records of one partition from offset `first` on; others are not taken.

    The record before `place.offset` is asked for as well, only to be compared: another id there
    means that the topic was made anew, and `replaced` is set.
    """

    def __init__(self, place: Place, first: int, *, verify: bool) -> None:
        self.place = place
        self.records: deque[ConsumerRecord] = deque()
        self.bytes = 0
        self.paused = False
        self.replaced = False
        self._next = first
        self._verify = verify

    def add(self, record: ConsumerRecord) -> None:
        """Queue a record, unless it was queued before or is the one to compare with."""
        if self._verify:
            self._verify = False
            if record.offset == self.place.offset - 1:
                parsed = from_kafka(record.headers, record.value)
                self.replaced = (parsed.source, parsed.id) != (self.place.source, self.place.id)
                return
        if record.offset < self._next or self.replaced:
            return
        self._next = record.offset + 1
        self.records.append(record)
        self.bytes += len(record.value or b"")

    def take(self, place: Place) -> None:
        """Drop the first record: the database stands behind it."""
        self.bytes -= len(self.records.popleft().value or b"")
        self.place = place

    def is_full(self, size: int) -> bool:
        """Tell whether reading has to pause."""
        return len(self.records) >= size or self.bytes >= QUEUE_BYTES

    def is_half_empty(self, size: int) -> bool:
        """Tell whether reading may go on."""
        return len(self.records) <= size // 2 and self.bytes <= QUEUE_BYTES // 2
