"""Publishes external events as other systems do: half through Kafka, half through HTTP, each twice.

Order is kept for each customer: a customer has one channel, a channel has one batch of a customer
on its way, and what fails is sent again before anything behind it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar
from zlib import crc32

import httpx
import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from rapport.contracts.registry import INBOUND
from rapport_local.demo.dataset import SOURCE, External
from rapport_local.errors import LocalRuntimeError

COPIES = 2
BATCH_EVENTS = 1_000
BATCH_BYTES = 1_000_000
ACKNOWLEDGED_SECONDS = 15.0
PATIENCE_SECONDS = 180.0
PAUSE_SECONDS = 0.2
BATCH_TYPE = "application/cloudevents-batch+json"
TEMPORARY = {408, 429, 500, 502, 503, 504}
ENVELOPE = {"specversion": "1.0", "source": SOURCE, "datacontenttype": "application/json"}

OnSent = Callable[[int], None]
T = TypeVar("T")


class PublishError(LocalRuntimeError):
    """Events could not be published, or were not accepted."""


class Publisher:
    """Both channels. `statuses` counts what HTTP answered, `records` what Kafka acknowledged."""

    def __init__(self, api_url: str, kafka: str, on_sent: OnSent) -> None:
        """Take the addresses of contacts and Kafka; `on_sent` hears how many copies went out."""
        self._http = HttpChannel(api_url, on_sent)
        self._kafka = KafkaChannel(kafka, on_sent)

    async def __aenter__(self) -> Self:
        """Return itself; connections are opened when needed."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close both channels."""
        await self._http.close()
        await self._kafka.close()

    @property
    def statuses(self) -> Counter[str]:
        """How often HTTP answered what."""
        return self._http.statuses

    @property
    def records(self) -> int:
        """How many records Kafka acknowledged."""
        return self._kafka.records

    async def publish(self, events: Sequence[External]) -> None:
        """Publish events, every one twice; raises PublishError."""
        through_kafka = [event for event in events if goes_through_kafka(event.customer)]
        through_http = [event for event in events if not goes_through_kafka(event.customer)]
        await asyncio.gather(self._kafka.publish(through_kafka), self._http.publish(through_http))


def goes_through_kafka(customer: int) -> bool:
    """Tell the channel of a customer: half of those with consent and half of the others each."""
    return customer // 2 % 2 == 0


def in_batches(events: Sequence[External]) -> Iterator[Sequence[External]]:
    """Cut events into batches of at most 1,000."""
    for start in range(0, len(events), BATCH_EVENTS):
        yield events[start : start + BATCH_EVENTS]


class HttpChannel:
    """`POST /v1/events` with batches of structured events, one request after the other."""

    def __init__(self, api_url: str, on_sent: OnSent) -> None:
        """Take the address of contacts."""
        self.statuses: Counter[str] = Counter()
        self._url = f"{api_url}/v1/events"
        self._client = httpx.AsyncClient(timeout=60, trust_env=False)
        self._on_sent = on_sent

    async def close(self) -> None:
        """Close the connection."""
        await self._client.aclose()

    async def publish(self, events: Sequence[External]) -> None:
        """Send every batch twice."""
        for batch in in_batches(events):
            body = orjson.dumps([structured(event) for event in batch])
            for _ in range(COPIES):
                self._note(await self._post(body))
                self._on_sent(len(batch))

    async def _post(self, body: bytes) -> list[dict[str, Any]]:
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            reason = ""
            try:
                answer = await self._client.post(
                    self._url, content=body, headers={"content-type": BATCH_TYPE}
                )
            except httpx.TransportError as error:
                reason = str(error) or type(error).__name__
            else:
                if answer.status_code == httpx.codes.ACCEPTED:
                    return list(orjson.loads(answer.content)["results"])
                reason = f"HTTP {answer.status_code}: {answer.text[:500]}"
                if answer.status_code not in TEMPORARY:
                    raise PublishError(f"{self._url} refused a batch: {reason}")
            if time.monotonic() > until:
                raise PublishError(f"{self._url} does not accept events: {reason}")
            await asyncio.sleep(PAUSE_SECONDS)

    def _note(self, results: list[dict[str, Any]]) -> None:
        for result in results:
            if result["status"] == "rejected":
                raise PublishError(f"an event was rejected: {result}")
            self.statuses[result["status"]] += 1


def structured(event: External) -> dict[str, Any]:
    """Return an event as an entry of a CloudEvents batch."""
    return {
        **ENVELOPE,
        "id": event.id,
        "type": event.type,
        "time": event.at.isoformat(),
        "data": event.data,
    }


def binary_headers(event: External) -> list[tuple[str, bytes]]:
    """Return the headers of an event in CloudEvents' binary mode for Kafka."""
    attributes = {"specversion": "1.0", "id": event.id, "type": event.type, "source": SOURCE}
    attributes["time"] = event.at.isoformat()
    headers = [(f"ce_{name}", value.encode()) for name, value in attributes.items()]
    return [*headers, ("content-type", b"application/json")]


class KafkaChannel:
    """Topic `inbound.events.v1`, keyed by the customer's number."""

    def __init__(self, bootstrap: str, on_sent: OnSent) -> None:
        """Take the address of Kafka."""
        self.records = 0
        self._bootstrap = bootstrap
        self._on_sent = on_sent
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    async def close(self) -> None:
        """Stop the producer; nothing is on its way any more."""
        if self._producer:
            await self._abandon(self._producer)

    async def publish(self, events: Sequence[External]) -> None:
        """Send each partition's batches, every one twice, one after the other."""
        if not events:
            return
        partitions = sorted(await self._insist(_list_partitions))
        queues: defaultdict[int, list[External]] = defaultdict(list)
        for event in events:
            place = crc32(str(event.customer).encode()) % len(partitions)
            queues[partitions[place]].append(event)
        await asyncio.gather(*(self._drain(*item) for item in queues.items()))

    async def _drain(self, partition: int, events: Sequence[External]) -> None:
        for batch in in_batches(events):
            for _ in range(COPIES):
                await self._send(partition, batch)
                self.records += len(batch)
                self._on_sent(len(batch))

    async def _send(self, partition: int, batch: Sequence[External]) -> None:
        async def deliver(producer: AIOKafkaProducer) -> None:
            await _deliver(producer, partition, batch)

        await self._insist(deliver)

    async def _insist(self, work: Callable[[AIOKafkaProducer], Awaitable[T]]) -> T:
        """Do something with a producer; after a failure with a new one, until patience ends."""
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            producer = None
            try:
                producer = await self._started()
                return await asyncio.wait_for(work(producer), ACKNOWLEDGED_SECONDS)
            except (KafkaError, TimeoutError) as error:
                if producer:
                    await self._abandon(producer)
                if time.monotonic() > until:
                    raise PublishError(f"Kafka does not accept events: {error!r}") from error
                await asyncio.sleep(PAUSE_SECONDS)

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._bootstrap,
                    max_batch_size=BATCH_BYTES,
                    max_request_size=BATCH_BYTES * 2,
                    compression_type="lz4",
                    enable_idempotence=True,
                )
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer

    async def _abandon(self, producer: AIOKafkaProducer) -> None:
        if self._producer is producer:
            self._producer = None
        with suppress(KafkaError, TimeoutError):
            await asyncio.wait_for(producer.stop(), PAUSE_SECONDS * 10)


async def _list_partitions(producer: AIOKafkaProducer) -> set[int]:
    partitions: set[int] = await producer.partitions_for(INBOUND)
    return partitions


async def _deliver(producer: AIOKafkaProducer, partition: int, batch: Sequence[External]) -> None:
    builder = producer.create_batch()
    for event in batch:
        added = builder.append(
            key=str(event.customer).encode(),
            value=orjson.dumps(event.data),
            timestamp=None,
            headers=binary_headers(event),
        )
        if added is None:
            raise PublishError(f"a batch of {len(batch)} events is larger than {BATCH_BYTES} bytes")
    builder.close()
    await (await producer.send_batch(builder, INBOUND, partition=partition))
