"""Kafka is away while 200,000 rows are written: nothing grows, and all of it arrives."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest

from rapport.settling import set_clock, settle
from rapport_local.demo.access import Access
from rapport_local.demo.publish import BATCH_TYPE
from rapport_local.shape import SERVICES
from rapport_local.supervisor import Runtime
from tests.faults.conftest import StartCopy

pytestmark = pytest.mark.demo

CUSTOMERS = 5_000
PURCHASES = 45_000
CONSENTS = 150_000
ROWS = CUSTOMERS + PURCHASES + CONSENTS
BATCH = 1_000
MOST_MB = 250.0
DRAIN_SECONDS = 420.0
SOURCE = "till"
NEW_YEAR = datetime(1998, 1, 1, tzinfo=UTC)
"""Purchases of 20 December are too old for a thank-you then, and their points are pending."""


def events() -> Iterator[dict[str, Any]]:
    """Registrations, purchases and decisions, each of which contacts answers with one event."""
    for n in range(CUSTOMERS):
        yield event("contact.registered", f"customer-{n}", n, email=f"{n}@till.example")
    for n in range(PURCHASES):
        line = {"sku": "cd", "quantity": 1, "net_minor": 1_500}
        at = {"occurred_at": "1997-12-20T12:00:00+01:00", "currency": "USD", "lines": [line]}
        yield event("purchase.recorded", f"purchase-{n}", n % CUSTOMERS, order=str(n), **at)
    for n in range(CONSENTS):
        given = ("consent.given", "consent.withdrawn")[n // CUSTOMERS % 2]
        yield event(given, f"consent-{n}", n % CUSTOMERS, purpose="marketing", channel="email")


def event(type_: str, id_: str, customer: int, **data: Any) -> dict[str, Any]:  # noqa: ANN401  JSON
    """Return an entry of a CloudEvents batch."""
    data = {"customer": str(customer), **data}
    head = {"specversion": "1.0", "source": SOURCE, "datacontenttype": "application/json"}
    return {**head, "id": id_, "type": type_, "data": data}


async def publish(url: str) -> Counter[str]:
    """Post everything in batches; return how often it was answered what."""
    statuses: Counter[str] = Counter()
    waiting = list(events())
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        (await client.post(f"{url}/v1/sources", json={"source": SOURCE})).raise_for_status()
        for start in range(0, ROWS, BATCH):
            body = orjson.dumps(waiting[start : start + BATCH])
            head = {"content-type": BATCH_TYPE}
            answer = await client.post(f"{url}/v1/events", content=body, headers=head)
            answer.raise_for_status()
            statuses.update(result["status"] for result in answer.json()["results"])
    return statuses


class Scales:
    """Weighs the services again and again, and remembers the most of each."""

    def __init__(self, runtime: Runtime) -> None:
        """Take a running copy."""
        self.most: dict[str, float] = {}
        self._runtime = runtime

    async def weigh(self) -> None:
        """Weigh until cancelled; the pause is between two readings, nothing is waited for."""
        while True:
            found = await asyncio.to_thread(self._runtime.memory_mb)
            for name, mb in found.items():
                if name.partition("-")[0] in SERVICES:
                    self.most[name] = max(mb, self.most.get(name, 0.0))
            await asyncio.sleep(0.25)


async def test_services_stay_small_and_drain(start_copy: StartCopy) -> None:
    """200,000 rows wait in contacts' outbox; later every service applies each of them once."""
    runtime = start_copy()
    access = Access(runtime.state())
    scales = Scales(runtime)
    weighing = asyncio.create_task(scales.weigh())
    try:
        await set_clock(access.ops, NEW_YEAR)
        await asyncio.to_thread(runtime.stop_process, "kafka")
        statuses = await publish(runtime.api_url("contacts"))
        assert statuses == {"accepted": ROWS}
        await asyncio.to_thread(runtime.start_process, "kafka")
        standings = await settle(access.ops, DRAIN_SECONDS)
    finally:
        weighing.cancel()
    print({name: f"{mb:.0f} MB" for name, mb in scales.most.items()})  # noqa: T201  figures
    assert sum(standings["contacts"].produced.values()) == ROWS
    totals = await access.totals()
    loyalty, analytics = totals["loyalty"], totals["analytics"]
    assert (loyalty["purchases"], loyalty["journals_unbalanced"]) == (PURCHASES, 0)
    assert loyalty["points"]["pending"] == PURCHASES * 15
    assert analytics["facts"]["purchase"] == PURCHASES
    assert analytics["live_revenue_minor"] == PURCHASES * 1_500
    assert totals["notifications"]["recipients"] == CUSTOMERS
    assert max(scales.most.values()) < MOST_MB, scales.most
