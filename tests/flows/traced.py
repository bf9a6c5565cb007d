"""The four services as processes, seen by a collector, and a few people whose data are planted."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import httpx
import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from rapport.contracts.registry import INBOUND, SERVICES, TOPICS
from rapport.journeys import Hop, follow
from rapport.messaging.ids import derived_id
from rapport.opsclient import OpsClient
from rapport.settling import settle
from rapport_local.plan import PARTITIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rapport.testing.otlp import OtlpReceiver
    from rapport_local.supervisor import Runtime

SOURCE = "till"
NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PERSON = {
    "given_name": "Zebulon",
    "family_name": "Quickwater",
    "email": "zebulon@quickwater.example",
    "phone": "+420 777 123 456",
    "street": "Plantagenet Lane 7",
    "birth_date": "1971-11-23",
}
PLANTED = tuple(value.encode() for value in PERSON.values())


@dataclass(frozen=True)
class Sent:
    """An external event of the till."""

    id: str
    type: str
    data: dict[str, Any]
    customer: str

    @property
    def attributes(self) -> dict[str, str]:
        """Its CloudEvents attributes."""
        return {"specversion": "1.0", "source": SOURCE, "id": self.id, "type": self.type}


def registration(customer: str, **changes: object) -> Sent:
    """Sign the planted person up under a number, with marketing consent."""
    consents = [{"purpose": "marketing"}]
    data = {**PERSON, "customer": customer, "consents": consents, **changes}
    return Sent(f"r-{customer}", "contact.registered", data, customer)


def purchase(customer: str, now: datetime = NOW) -> Sent:
    """Let a customer pay 120.00, enough for the segment."""
    data = {
        "customer": customer,
        "order": f"o-{customer}",
        "occurred_at": (now - timedelta(hours=1)).isoformat(),
        "currency": "USD",
        "lines": [{"sku": "cd", "quantity": 1, "net_minor": 12_000}],
    }
    return Sent(f"p-{customer}", "purchase.recorded", data, customer)


def contact_of(customer: str) -> UUID:
    """Return the contact that a customer of the till becomes."""
    return derived_id("contact", SOURCE, customer)


@dataclass
class Traced:
    """A running copy and the collector that its services export to."""

    runtime: Runtime
    receiver: OtlpReceiver
    listed: dict[str, bytes] = field(default_factory=dict)
    """What ops endpoints listed at some time, by service and path."""

    @property
    def ops_urls(self) -> dict[str, str]:
        """The services' ops ports."""
        return {service: self.runtime.ops_url(service) for service in SERVICES}

    async def sql(self, service: str, statement: str) -> None:
        """Run a statement on a service's database."""
        connection = await asyncpg.connect(self.runtime.dsn(service))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def settle(self) -> None:
        """Wait until nothing is open."""
        await settle(self.ops_urls, 120)

    async def send_by_kafka(self, *events: Sent) -> None:
        """Publish in binary mode, without a trace."""
        producer = AIOKafkaProducer(bootstrap_servers=self.runtime.kafka)
        await producer.start()
        try:
            for event in events:
                headers = [(f"ce_{k}", v.encode()) for k, v in event.attributes.items()]
                body = msgspec.json.encode(event.data)
                await producer.send_and_wait(
                    INBOUND, body, event.customer.encode(), headers=headers
                )
        finally:
            await producer.stop()

    async def send_by_http(self, event: Sent, traceparent: str | None = None) -> int:
        """Publish one structured event; return the status."""
        headers = {"content-type": "application/cloudevents+json"}
        if traceparent:
            headers["traceparent"] = traceparent
        body = msgspec.json.encode({**event.attributes, "data": event.data})
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            url = self.runtime.api_url("contacts") + "/v1/events"
            return (await client.post(url, content=body, headers=headers)).status_code

    async def register_source(self) -> None:
        """Let the till send."""
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            url = self.runtime.api_url("contacts") + "/v1/sources"
            (await client.post(url, json={"source": SOURCE})).raise_for_status()

    async def enter_by_hand(self) -> None:
        """Let staff add the planted person, mistype once, and change it."""
        form = {name: value for name, value in PERSON.items() if name != "street"}
        url = self.runtime.api_url("contacts") + "/v1/contacts"
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            wrong = await client.post(url, json={**form, "email": form["phone"]})
            assert wrong.status_code == 422
            made = await client.post(url, json=form)
            made.raise_for_status()
            found = await client.patch(
                f"{url}/{made.json()['id']}",
                json={"family_name": "Quickwater-Planted"},
                headers={"if-match": made.headers["etag"]},
            )
            found.raise_for_status()

    async def follow(self, event: Sent) -> Hop:
        """Tell an external event's journey from the services' tables."""
        async with OpsClient(self.ops_urls, timeout_seconds=30) as client:
            return await follow(client, str(derived_id("external", SOURCE, event.id)))

    async def redrive(self, service: str, contact_id: UUID) -> None:
        """Apply what is parked of a contact."""
        async with OpsClient(self.ops_urls, timeout_seconds=30) as client:
            await client.post(service, "/ops/parked/redrive", {"contact_id": str(contact_id)})

    async def read_ops(self, path: str) -> dict[str, bytes]:
        """GET the same from every service, as it comes."""
        async with OpsClient(self.ops_urls, timeout_seconds=30) as client:
            answers = [await client.get(service, path) for service in client.services]
            return dict(zip(client.services, (a.content for a in answers), strict=True))

    async def count_mails(self) -> int:
        """Return how many mails the sink has."""
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            return int((await client.get(self.runtime.sink_url + "/count")).json()["total"])

    async def read_keys_and_headers(self) -> dict[str, list[bytes]]:
        """Read all topics raw: every record's key, and names and values of its headers."""
        found: dict[str, list[bytes]] = {topic: [] for topic in TOPICS}
        consumer = AIOKafkaConsumer(bootstrap_servers=self.runtime.kafka, enable_auto_commit=False)
        await consumer.start()
        try:
            places = [TopicPartition(topic, p) for topic in TOPICS for p in range(PARTITIONS)]
            consumer.assign(places)
            await consumer.seek_to_beginning(*places)
            ends = await consumer.end_offsets(places)
            while any([await consumer.position(place) < end for place, end in ends.items()]):
                for place, records in (await consumer.getmany(timeout_ms=200)).items():
                    for record in records:
                        named = [name.encode() + b"=" + value for name, value in record.headers]
                        found[place.topic] += [record.key or b"", *named]
        finally:
            await consumer.stop()
        return found

    async def restart_services(self) -> None:
        """Stop and start every service."""
        for service in SERVICES:
            await asyncio.to_thread(self.runtime.stop_process, service)
            await asyncio.to_thread(self.runtime.start_process, service)


def short(event_type: str) -> str:
    """Return a type without what all types begin and end with."""
    return event_type.removeprefix("rapport.").removesuffix(".v1")


def edges(hop: Hop, start: str) -> Iterator[tuple[str, str]]:
    """Yield (event, event it caused) of a journey told from tables."""
    for caused in hop.caused:
        yield start, short(caused.type)
        yield from edges(caused, short(caused.type))
