"""Another system that publishes to Rapport, and goes on when Rapport is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from rapport.contracts.registry import INBOUND
from rapport.testing.suite import Suite

SOURCE = "till"
STRUCTURED = {"content-type": "application/cloudevents+json"}
BATCH = {"content-type": "application/cloudevents-batch+json"}
PATIENCE_SECONDS = 120.0
ACKNOWLEDGED_SECONDS = 6.0
AGAIN_SECONDS = 0.2

T = TypeVar("T")


@dataclass(frozen=True)
class External:
    """An event of the till."""

    id: str
    type: str
    data: dict[str, Any]

    @property
    def attributes(self) -> dict[str, str]:
        """Its CloudEvents attributes."""
        return {"specversion": "1.0", "source": SOURCE, "id": self.id, "type": self.type}

    @property
    def structured(self) -> dict[str, Any]:
        """It as one JSON object."""
        return {**self.attributes, "datacontenttype": "application/json", "data": self.data}


class Till:
    """Publishes through Kafka, or over HTTP to whichever replica of contacts answers."""

    def __init__(self, suite: Suite) -> None:
        """Take the addresses; connections are opened when needed."""
        self._bootstrap = suite.kafka
        self._urls = cycle(suite.api_urls("contacts"))
        self._http = httpx.AsyncClient(timeout=ACKNOWLEDGED_SECONDS, trust_env=False)
        self._producer: AIOKafkaProducer | None = None

    async def __aenter__(self) -> Self:
        """Register as a source."""
        url = f"{next(self._urls)}/v1/sources"
        (await self._http.post(url, json={"source": SOURCE})).raise_for_status()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all connections."""
        await self._http.aclose()
        await self._abandon()

    async def by_http(self, events: Sequence[External]) -> list[dict[str, Any]]:
        """Publish a batch; return what became of each."""
        body = orjson.dumps([event.structured for event in events])

        async def post() -> list[dict[str, Any]]:
            answer = await self._http.post(
                f"{next(self._urls)}/v1/events", content=body, headers=BATCH
            )
            answer.raise_for_status()
            results: list[dict[str, Any]] = answer.json()["results"]
            return results

        results = await _insist(post)
        assert {"accepted", "duplicate"} >= {result["status"] for result in results}, results
        return results

    async def by_kafka(self, events: Sequence[External]) -> None:
        """Publish to the inbound topic, in CloudEvents' binary mode."""

        async def produce() -> None:
            try:
                async with asyncio.timeout(ACKNOWLEDGED_SECONDS):
                    await self._produce(events)
            except BaseException:
                await self._abandon()
                raise

        await _insist(produce)

    async def _produce(self, events: Sequence[External]) -> None:
        if self._producer is None:
            self._producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap)
            await self._producer.start()
        waiting = []
        for event in events:
            headers = [(f"ce_{name}", value.encode()) for name, value in event.attributes.items()]
            headers.append(("content-type", b"application/json"))
            body, key = orjson.dumps(event.data), event.data["customer"].encode()
            waiting.append(await self._producer.send(INBOUND, body, key, headers=headers))
        await asyncio.gather(*waiting)

    async def _abandon(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(KafkaError, TimeoutError):
                await asyncio.wait_for(producer.stop(), AGAIN_SECONDS * 5)


async def _insist(work: Callable[[], Awaitable[T]]) -> T:
    """Do it again until it succeeds or patience ends; refusals are not for ever here."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return await work()
        except (KafkaError, httpx.HTTPError, TimeoutError):
            if time.monotonic() > until:
                raise
        await asyncio.sleep(AGAIN_SECONDS)
