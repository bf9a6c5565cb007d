"""Product story 1, "Purchase recorded", line by line on containers, two replicas of each service.

Left out, because no service has it yet: the coupon and its redemption (lines 5 and 8), the stage
(line 5), the survey (line 7). Of line 9, that traces are joined by links is shown in
tests/flows/test_traces.py.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from testcontainers.core.container import DockerContainer

from rapport.contracts.registry import SERVICES
from rapport.journeys import Hop, follow
from rapport.messaging.ids import derived_id
from rapport.opsclient import OpsClient
from rapport.reconciling import reconcile
from rapport.settling import advance_clock, set_clock, settle
from rapport.testing import faults
from rapport.testing.inprocess import until
from rapport.testing.suite import Suite
from rapport.topics import TopicPlan
from tests.e2e.till import SOURCE, External, Till

EMAIL = "c1@customer.example"
SEGMENT = "first-thousand"
GATES = {
    *("dedupe", "class", "suppression", "consent", "preference", "complaint_hold", "cap"),
    *("quiet_hours", "render"),
}
REGISTERED = "2026-01-10T09:00:00+01:00"
BOUGHT = "2026-03-02T10:00:00+01:00"
AGAIN = "2026-03-02T10:00:05+01:00"
ACTIVE = "2026-03-16T10:00:00+01:00"
LATER = "2027-02-28T12:00:00+01:00"
ANNIVERSARY = "2027-03-02T09:00:00+01:00"
SOON_SECONDS = 5.0
LINES = [{"line": "1", "sku": "book", "quantity": 1, "net_minor": 60_000}]
LINES += [{"line": "2", "sku": "pen", "quantity": 4, "net_minor": 40_000}]
REGISTRATION = External(
    "r1",
    "contact.registered",
    {
        "customer": "c1",
        "given_name": "Ada",
        "email": EMAIL,
        "consents": [{"purpose": "marketing"}, {"purpose": "surveys"}],
    },
)
PURCHASE = External(
    "p1",
    "purchase.recorded",
    {"customer": "c1", "order": "O1", "occurred_at": BOUGHT, "currency": "CZK", "lines": LINES},
)


@dataclass
class Story:
    """The suite, whose clock is moved, and what is asked of it about c1."""

    suite: Suite
    till: Till
    http: httpx.AsyncClient = field(default_factory=lambda: httpx.AsyncClient(trust_env=False))
    contact: UUID = field(default_factory=lambda: derived_id("contact", SOURCE, "c1"))

    async def get(self, service: str, path: str) -> Any:  # noqa: ANN401  JSON
        """Ask a service's public API."""
        return (await self.http.get(self.suite.api_url(service) + path)).raise_for_status().json()

    async def balance(self) -> dict[str, int]:
        """Return the points of c1."""
        found = await self.get("loyalty", f"/v1/members/{self.contact}")
        return dict(found["balance"])

    async def mails(self) -> list[dict[str, Any]]:
        """Return the mails that c1 got, the oldest first."""
        found = await self.http.get(f"{self.suite.sink_url}/messages?to={EMAIL}")
        return list(reversed(found.raise_for_status().json()["items"]))

    async def messages(self, rule: str) -> list[dict[str, Any]]:
        """Return the messages to c1 of a rule, with every gate's decision."""
        listed = await self.get("notifications", f"/v1/messages?contact_id={self.contact}")
        ids = [item["id"] for item in listed["items"] if item["rule"] == rule]
        return [await self.get("notifications", f"/v1/messages/{id_}") for id_ in ids]

    async def happened(self) -> Counter[str]:
        """Return how often each thing happened to c1, in all services."""
        found = await self.get("contacts", f"/v1/contacts/{self.contact}/timeline?limit=100")
        return Counter(item["type"].split(".")[-2] for item in found["items"])

    async def of_all_replicas(self, service: str, do: Callable[[DockerContainer], None]) -> None:
        """Do something to every replica of a service."""
        names = [name for name in self.suite.replicas if name.startswith(service)]
        await asyncio.gather(*(asyncio.to_thread(do, self.suite[name]) for name in names))


@pytest.fixture(scope="module")
async def story(suite: Suite) -> AsyncIterator[Story]:
    """Line 1: c1 with both permissions; the reporting currency is worth a crown."""
    await set_clock(suite.ops_urls, datetime.fromisoformat(REGISTERED))
    async with Till(suite) as till, httpx.AsyncClient(trust_env=False, timeout=30) as http:
        url = suite.api_url("analytics")
        rate = {"valid_from": "2026-01-01", "rate": "1"}
        rule = {"all": [{"measure": "monetary_minor", "at_least": 100_000}]}
        (await http.post(f"{url}/v1/rates/CZK", json=rate)).raise_for_status()
        (await http.put(f"{url}/v1/segments/{SEGMENT}", json=rule)).raise_for_status()
        await till.by_http([REGISTRATION])
        await settle(suite.ops_urls)
        yield Story(suite, till, http)


async def test_purchase_recorded(story: Story) -> None:
    """Lines 2 to 6, 8 to 10; a line is a call."""
    assert not any((await story.balance()).values())
    await buy_twice_while_analytics_is_killed(story)
    await pending_points(story)
    await one_thank_you(story)
    await profile_and_segment(story)
    await points_become_active(story)
    await one_anniversary_mail(story)
    await journey(story)
    await everything_adds_up(story)


async def buy_twice_while_analytics_is_killed(story: Story) -> None:
    """Lines 2, 3 and 6: by Kafka at 10:00:00, and by HTTP at :05; analytics is away meanwhile."""
    await set_clock(story.suite.ops_urls, datetime.fromisoformat(BOUGHT))
    await story.of_all_replicas("analytics", faults.kill)
    begun = time.monotonic()
    await story.till.by_kafka([PURCHASE])

    async def is_pending() -> bool:
        return (await story.balance())["pending"] == 1_000

    await until(is_pending, "1,000 points pending", SOON_SECONDS)
    print(f"pending {time.monotonic() - begun:.2f} s after publishing")  # noqa: T201  a figure
    await story.of_all_replicas("analytics", faults.start)
    await set_clock(story.suite.ops_urls, datetime.fromisoformat(AGAIN))
    (result,) = await story.till.by_http([PURCHASE])
    assert result["status"] == "duplicate"
    await settle(story.suite.ops_urls)


async def pending_points(story: Story) -> None:
    """Line 3: one `purchase-recorded`, contiguous numbers, nothing active, journals sum to zero."""
    assert (await story.happened())["purchase-recorded"] == 1
    assert await story.balance() == {"pending": 1_000, "active": 0, "held": 0, "debt": 0}
    assert (await story.get("loyalty", "/v1/totals"))["journals_unbalanced"] == 0
    for service in SERVICES:
        await _check_numbers(story.suite.kafka, f"{service}.events.v1")


async def _check_numbers(bootstrap: str, topic: str) -> None:
    """Read a stream as it is: each partition's numbers are 1, 2, 3 and name one event each."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        places = [TopicPartition(topic, n) for n in range(TopicPlan().partitions)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        for place, end in ends.items():
            await consumer.seek_to_beginning(place)
            seen: dict[int, set[bytes]] = {}
            while await consumer.position(place) < end:
                for record in (await consumer.getmany(place, timeout_ms=500)).get(place, []):
                    headers = dict(record.headers)
                    seen.setdefault(int(headers["ce_sequence"]), set()).add(headers["ce_id"])
            events = {number: ids for number, ids in seen.items() if number}
            assert sorted(events) == list(range(1, len(events) + 1)), place
            assert all(len(ids) == 1 for ids in events.values()), place
    finally:
        await consumer.stop()


async def one_thank_you(story: Story) -> None:
    """Line 4: one mail by 10:01, its Message-ID derived, every gate's decision stored."""
    (message,) = await story.messages("thank-you")
    contact, about = story.contact, message["about_id"]
    derived = derived_id("message", "thank-you", UUID(about), message["occasion"], contact, "email")
    assert message["id"] == str(derived)
    assert [mail["message_id"] for mail in await story.mails()] == [f"<{derived}@rapport.example>"]
    sent_at = datetime.fromisoformat(message["sent_at"])
    assert sent_at < datetime.fromisoformat(BOUGHT) + timedelta(minutes=1)
    assert {gate["gate"] for gate in message["gates"]} >= GATES
    assert {gate["decision"] for gate in message["gates"]} <= {"pass", "exempt"}


async def profile_and_segment(story: Story) -> None:
    """Lines 5 and 6: money, frequency and segment, as if nothing had been killed."""
    profile = await story.get("analytics", f"/v1/contacts/{story.contact}/profile")
    assert (profile["monetary_minor"], profile["kept_purchases"]) == (100_000, 1)
    assert SEGMENT in profile["segments"]
    summary = await story.get("analytics", f"/v1/segments/{SEGMENT}")
    assert summary["entered"] == summary["members"] == 1
    # the segment that comes with analytics, for 100.00, was entered as well
    assert (await story.happened())["segment-entered"] == len(profile["segments"]) == 2


async def points_become_active(story: Story) -> None:
    """Line 8: a second before, nothing; then all of them, once."""
    moment = datetime.fromisoformat(ACTIVE)
    await advance_clock(story.suite.ops_urls, moment - timedelta(seconds=1))
    assert (await story.balance())["active"] == 0
    await advance_clock(story.suite.ops_urls, moment)
    assert await story.balance() == {"pending": 0, "active": 1_000, "held": 0, "debt": 0}
    assert (await story.happened())["points-awarded"] == 1


async def one_anniversary_mail(story: Story) -> None:
    """Line 9: a year later at 9:00, allowed by the consent given at registration."""
    # nothing is due between, so the clock needs no stop on each day
    await set_clock(story.suite.ops_urls, datetime.fromisoformat(LATER))
    moment = datetime.fromisoformat(ANNIVERSARY)
    await advance_clock(story.suite.ops_urls, moment - timedelta(seconds=1))
    assert len(await story.mails()) == 1
    await advance_clock(story.suite.ops_urls, moment + timedelta(minutes=1))
    assert len(await story.mails()) == 2
    (message,) = await story.messages("anniversary")
    consents = (await story.get("contacts", f"/v1/contacts/{story.contact}/consents"))["items"]
    (given,) = [item for item in consents if item["purpose"] == "marketing"]
    assert message["consent_event_id"] == given["event_id"]


async def journey(story: Story) -> None:
    """Line 9: from the till's event to mail, ledger and metric."""
    async with OpsClient(story.suite.ops_urls) as client:
        hop = await follow(client, str(derived_id("external", SOURCE, PURCHASE.id)))
        # a timer's event is told from there on: which purchases it is about is in its body
        (yearly,) = await story.messages("anniversary")
        later = await follow(client, yearly["cause_id"])
    (recorded,) = hop.caused
    assert recorded.accepted is not None
    assert recorded.accepted["id"] == PURCHASE.id
    paths = {" ".join(path) for path in _paths(recorded, ())}
    assert paths == {
        "purchase-recorded points-pending points-awarded",
        "purchase-recorded message-queued message-sent",
        "purchase-recorded profile-updated",
        "purchase-recorded segment-entered",
    }
    assert _paths(later, ()) == {("anniversary-due", "message-queued", "message-sent")}
    assert all(applied for each in recorded.walk() for applied in each.applied.values())


def _paths(hop: Hop, before: Sequence[str]) -> set[tuple[str, ...]]:
    path = (*before, hop.type.split(".")[-2])
    ends = {end for caused in hop.caused for end in _paths(caused, path)}
    return ends or {path}


async def everything_adds_up(story: Story) -> None:
    """Line 10: on all streams, and between the services."""
    found = await reconcile(story.suite.ops_urls)
    assert found.differences == []
    assert all(line.produced == line.applied for line in found.consumed)
    assert (found.parked, found.in_flight, found.missing) == (0, 0, 0)
    totals = {service: await story.get(service, "/v1/totals") for service in SERVICES}
    loyalty, analytics = totals["loyalty"], totals["analytics"]
    assert totals["contacts"]["purchases"] == loyalty["purchases"] == analytics["facts"]["purchase"]
    revenue = [totals["contacts"]["revenue_gross_minor"], analytics["revenue_minor"]]
    assert [*revenue, loyalty["programme"]["issued"] * 100] == [100_000] * 3
