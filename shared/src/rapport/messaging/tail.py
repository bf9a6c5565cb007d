"""Compares the end of the stream in Kafka with what the ticks say, at each take-over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from rapport.messaging import tick
from rapport.messaging.envelope import ForeignRecordError, parse
from rapport.messaging.numbering import Numbering
from rapport.messaging.position import Step, step

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from rapport.messaging.tick import Tick
    from rapport.pgtypes import Connection

DEADLINE_SECONDS = 15.0
WINDOWS = (50, 1_000, 20_000)


class ForkError(Exception):
    """Kafka has records that this database does not know: it lost commits that were sent."""


class Last(NamedTuple):
    """What a partition's end holds: its highest record, and how far one gets who reads it.

    `reached` is below `number` where records are missing: the log lost some, and a relay that woke
    up wrote behind the gap.
    """

    epoch: int
    number: int
    id: UUID | None
    reached: int

    def behind(self, epoch: int, number: int, event_id: UUID) -> Last:
        """Return what it holds with one more record."""
        if epoch > self.epoch:
            return Last(epoch, number, event_id, number)
        reached = self.reached
        if step(self.epoch, reached, epoch, number) is Step.APPLY:
            reached = number
        if (epoch, number) > (self.epoch, self.number):
            return Last(epoch, number, event_id, reached)
        return self._replace(reached=reached)


NOTHING = Last(0, 0, None, 0)


async def read(bootstrap: str, stream: str, partitions: int) -> dict[int, Last]:
    """Return the last record of each partition; raises KafkaError.

    A log that never held anything has NOTHING; one that retention emptied is left out.
    """
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    async with asyncio.timeout(DEADLINE_SECONDS):
        await consumer.start()
    try:
        places = [TopicPartition(stream, partition) for partition in range(partitions)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        starts = await consumer.beginning_offsets(places)
        found = {}
        for place in places:
            last = await _last_of(consumer, place, starts[place], ends[place])
            if ends[place] == 0:
                last = NOTHING
            if last is not None:
                found[place.partition] = last
        return found
    finally:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await consumer.stop()


async def _last_of(
    consumer: AIOKafkaConsumer, place: TopicPartition, start: int, end: int
) -> Last | None:
    """Look back from the end in growing windows, past records that are not ours."""
    for window in WINDOWS:
        first = max(start, end - window)
        last: Last | None = None
        offset = first
        consumer.seek(place, first)
        while offset < end:
            async with asyncio.timeout(DEADLINE_SECONDS):
                batches = await consumer.getmany(place, timeout_ms=1000)
            for record in batches.get(place, ()):
                offset = record.offset + 1
                try:
                    envelope = parse(record)
                except ForeignRecordError:
                    continue
                last = (last or NOTHING).behind(envelope.epoch, envelope.number, envelope.id)
        if last is not None or first == start:
            return last
    return None


def resume_after(acknowledged: int, made: tuple[int, int], last: Last | None) -> int:
    """Return the number after which a partition is sent again, from there to the end.

    That is the lowest unacknowledged number: Kafka's last record vouches for none before it.
    Kafka behind what was acknowledged, or a gap at its end, means that it lost records: they are
    sent again. No record at all proves nothing, retention may have emptied the log. Raises
    ForkError when Kafka is ahead of `made`, the (epoch, number) of the last tick.
    """
    if last is None:
        return acknowledged
    if last[:2] > made:
        msg = f"Kafka has {last.epoch}:{last.number}, the last tick says {made[0]}:{made[1]}"
        raise ForkError(msg)
    return min(acknowledged, last.reached)


async def compare(
    connection: Connection, cut: Tick, acknowledged: Sequence[int], found: dict[int, Last]
) -> list[int]:
    """Return the number after which each partition is sent; raises ForkError.

    Kafka ahead of the last tick, or another event under a number, means that this database lost
    commits that were sent.
    """
    agreed = []
    for partition, number in enumerate(acknowledged):
        last = found.get(partition)
        try:
            agreed.append(resume_after(number, (cut.epoch, cut.after[partition]), last))
        except ForkError as error:
            msg = f"partition {partition}: {error}; run `rapport stream fork`"
            raise ForkError(msg) from None
        known = await _id_of(connection, partition, last.number) if last is not None else None
        if last is not None and None not in (known, last.id) and known != last.id:
            msg = (
                f"partition {partition} number {last.number}: Kafka has event {last.id}, the "
                f"outbox {known}; run `rapport stream fork`"
            )
            raise ForkError(msg)
    return agreed


async def _id_of(connection: Connection, partition: int, number: int) -> UUID | None:
    """Return the event that the outbox has under this number; none when retention removed it."""
    row = await connection.fetchrow(tick.CONTAINING, partition + 1, number)
    if row is None:
        return None
    cut = tick.Tick.of(row)
    numbering = Numbering("", cut)
    previous = await tick.snapshot_before(connection, cut)
    async for rows in tick.list_rows(connection, previous, cut):
        for row in rows:
            if numbering.take(row) == (partition, number):
                event_id: UUID = row["event_id"]
                return event_id
    return None
