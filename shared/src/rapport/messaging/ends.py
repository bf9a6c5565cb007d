"""Where a topic's partitions end, asked over a connection of its own.

A consumer's own connection answers only after its waiting fetch, half a second later.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaConsumer, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Sequence

DEADLINE_SECONDS = 5.0


class LogEnds:
    """Reads end offsets; connects when first asked, and again after a failure."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._consumer: AIOKafkaConsumer | None = None
        self._lock = asyncio.Lock()

    async def read(self, topic: str, partitions: Sequence[int]) -> dict[int, int]:
        """Return the offset of the next record of each partition.

        Raises KafkaError, or TimeoutError when Kafka does not answer in time.
        """
        places = [TopicPartition(topic, partition) for partition in partitions]
        async with self._lock:
            try:
                async with asyncio.timeout(DEADLINE_SECONDS):
                    ends = await (await self._started()).end_offsets(places)
            except BaseException:
                await self._drop()
                raise
        return {place.partition: end for place, end in ends.items()}

    async def _started(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            self._consumer = AIOKafkaConsumer(
                bootstrap_servers=self._bootstrap, enable_auto_commit=False
            )
            await self._consumer.start()
        return self._consumer

    async def _drop(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()

    async def stop(self) -> None:
        """Close the connection."""
        async with self._lock:
            await self._drop()
