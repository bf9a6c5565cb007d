"""The producer side of Kafka: explicit batches, at most one unacknowledged per partition."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import structlog
from aiokafka import AIOKafkaProducer

from rapport import metrics

if TYPE_CHECKING:
    from aiokafka.producer.message_accumulator import BatchBuilder

    from rapport.messaging.envelope import Headers

log = structlog.get_logger()

MAX_BATCH_BYTES = 900_000
DEADLINE_SECONDS = 10.0


class LogRestartedError(Exception):
    """An acknowledged batch lies at or before an earlier one: the log is another, or was cut off.

    What it lost is unknown; everything that the outbox still has is sent again.
    """


class Wire:
    """Sends numbered records of one stream; any error or missed deadline makes it useless.

    `acknowledged[p]` is the highest number that Kafka has confirmed in partition p.
    """

    def __init__(self, bootstrap: str, stream: str, acknowledged: list[int]) -> None:
        self.stream = stream
        self.acknowledged = acknowledged
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            enable_idempotence=True,
            acks="all",
            compression_type="lz4",
            linger_ms=0,
            max_batch_size=MAX_BATCH_BYTES,
            request_timeout_ms=int(DEADLINE_SECONDS * 1000),
        )
        self._builders: dict[int, BatchBuilder] = {}
        self._numbers: dict[int, int] = {}
        self._pending: dict[int, tuple[int, float, asyncio.Future[Any]]] = {}
        self._offsets: dict[int, int] = {}

    async def start(self) -> None:
        """Connect; raises KafkaError or TimeoutError."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self._producer.start()

    async def add(
        self, partition: int, number: int, key: bytes, value: bytes, headers: Headers
    ) -> None:
        """Append a record to the partition's batch, sending the batch when it is full."""
        builder = self._builders.get(partition)
        if builder is None:
            builder = self._builders[partition] = self._producer.create_batch()
        if builder.append(key=key, value=value, timestamp=None, headers=headers) is None:
            await self._send(partition)
            builder = self._builders[partition] = self._producer.create_batch()
            if builder.append(key=key, value=value, timestamp=None, headers=headers) is None:
                msg = f"{self.stream} partition {partition} number {number}: record too large"
                raise ValueError(msg)
        self._numbers[partition] = number

    async def flush(self) -> None:
        """Send every open batch, after the one before it in its partition was acknowledged."""
        for partition in list(self._builders):
            await self._send(partition)

    async def settle(self) -> None:
        """Wait until everything sent is acknowledged."""
        for partition in list(self._pending):
            await self._confirm(partition)

    async def _send(self, partition: int) -> None:
        await self._confirm(partition)
        builder = self._builders.pop(partition)
        builder.close()
        started = time.monotonic()
        async with asyncio.timeout(DEADLINE_SECONDS):
            future = await self._producer.send_batch(builder, self.stream, partition=partition)
        self._pending[partition] = (self._numbers[partition], started, future)

    async def _confirm(self, partition: int) -> None:
        pending = self._pending.pop(partition, None)
        if pending is not None:
            number, started, future = pending
            async with asyncio.timeout(DEADLINE_SECONDS):
                sent = await asyncio.shield(future)
            if 0 <= sent.offset <= self._offsets.get(partition, -1):
                self.acknowledged[partition] = 0
                msg = f"{self.stream} partition {partition}: number {number} at {sent.offset}"
                raise LogRestartedError(msg)
            self._offsets[partition] = max(sent.offset, self._offsets.get(partition, -1))
            # Until it is looked at: acknowledgements of other partitions are waited for before.
            metrics.observe_operation("send", self.stream, time.monotonic() - started)
            metrics.count_sent(self.stream, partition, number - self.acknowledged[partition])
            self.acknowledged[partition] = number

    async def close(self) -> None:
        """Stop under a deadline: aiokafka's own stop flushes without a bound."""
        for *_, future in self._pending.values():
            future.add_done_callback(_retrieve)
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await self._producer.stop()
        except Exception as error:  # noqa: BLE001  it is abandoned, whatever it says
            log.warning("producer_abandoned", stream=self.stream, error=repr(error))


def _retrieve(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
