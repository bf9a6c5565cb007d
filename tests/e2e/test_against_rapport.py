"""A shop's publisher and subscriber, tested against Rapport itself."""

import asyncio
import json
from collections.abc import Iterator
from datetime import datetime

import httpx
import pytest
from aiokafka import AIOKafkaConsumer

from rapport.settling import set_clock, settle
from rapport.testing.suite import Suite

NOW = "2026-03-02T10:00:00+01:00"


@pytest.fixture(scope="module")
def rapport() -> Iterator[Suite]:
    with Suite() as suite:
        asyncio.run(set_clock(suite.ops_urls, datetime.fromisoformat(NOW)))
        httpx.post(f"{suite.api_url('contacts')}/v1/sources", json={"source": "my-shop"})
        yield suite


def publish(api_url: str, event_type: str, event_id: str, **data: object) -> int:
    """Stands for your publisher: one event in CloudEvents' structured mode."""
    head = {"specversion": "1.0", "source": "my-shop", "id": event_id, "type": event_type}
    headers = {"content-type": "application/cloudevents+json"}
    content = json.dumps({**head, "data": data})
    return httpx.post(f"{api_url}/v1/events", content=content, headers=headers).status_code


async def read_points(bootstrap: str) -> dict[str, int]:
    """Stands for your subscriber: the points that wait for each contact."""
    consumer = AIOKafkaConsumer(
        "loyalty.events.v1", bootstrap_servers=bootstrap, auto_offset_reset="earliest"
    )
    points: dict[str, int] = {}
    await consumer.start()
    try:
        async with asyncio.timeout(30):
            async for record in consumer:
                if dict(record.headers).get("ce_type") == b"rapport.loyalty.points-pending.v1":
                    points[record.key.decode()] = json.loads(record.value)["points"]
                    return points
    finally:
        await consumer.stop()
    return points


def test_a_sale_earns_points_and_thanks(rapport: Suite) -> None:
    contacts = rapport.api_url("contacts")
    publish(contacts, "contact.registered", "r1", customer="7", email="ada@customer.example")
    sale = {"customer": "7", "order": "O1", "occurred_at": NOW}
    lines = [{"sku": "book", "quantity": 1, "net_minor": 2_500}]
    for _ in range(2):  # a repetition changes nothing
        sold = publish(contacts, "purchase.recorded", "p1", currency="USD", lines=lines, **sale)
        assert sold == 202

    asyncio.run(settle(rapport.ops_urls))

    assert list(asyncio.run(read_points(rapport.kafka)).values()) == [25]
    mails = httpx.get(f"{rapport.sink_url}/messages?to=ada@customer.example").json()["items"]
    assert [mail["subject"] for mail in mails] == ["Thank you for your purchase O1"]
