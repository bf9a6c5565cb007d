"""Customers who buy all the time, and what every total has to be in the end: counted here alone."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx

from rapport.contracts.registry import SERVICES
from rapport.opsclient import OpsClient
from rapport.reconciling import reconcile
from rapport.settling import Standings, read_standings, settle
from rapport.testing.suite import Suite
from tests.e2e.till import External, Till

SEED = os.environ.get("RAPPORT_FAULT_SEED", "2026")
"""Another one gives other amounts and moments; each test prints it."""
NOW = "2026-03-02T10:00:00+01:00"
BUYERS = 96
BUYERS_A_ROUND = 8
AT_ONCE = 2
"""Batches on their way through each channel: more would only wait for one another's locks."""
PROBES = 12
ROUND_SECONDS = 0.5
SLOW_MAIL = [{"step": "content", "delay_seconds": 0.1}]
"""The sink has a mail some time before it says so: whoever is killed then does not know."""
VALUED_MINOR = 10_000
SETTLED_SECONDS = 180.0
RECOVERED_SECONDS = 90.0
POLL_SECONDS = 0.1

Channel = Callable[[Sequence[External]], Awaitable[object]]


class Load:
    """Buyers buy in rounds until `stop`; probes buy once, when they are told.

    Every event is published twice, by Kafka and by HTTP, and both at once.
    """

    def __init__(self, suite: Suite, till: Till, name: str) -> None:
        """Draw everything from the seed and the name."""
        self.chance = random.Random(f"{SEED} {name}")  # noqa: S311  a test's choice
        self._suite = suite
        self.buyers = [f"{name}-{n}" for n in range(BUYERS)]
        self.probes = [f"{name}-probe-{n}" for n in range(PROBES)]
        self._bought: defaultdict[str, list[int]] = defaultdict(list)
        self._stopping = asyncio.Event()
        self._channels: list[tuple[Channel, asyncio.Semaphore]] = [
            (till.by_kafka, asyncio.Semaphore(AT_ONCE)),
            (till.by_http, asyncio.Semaphore(AT_ONCE)),
        ]
        self._before: Counter[str] = Counter()

    @property
    def customers(self) -> list[str]:
        """Everybody."""
        return [*self.buyers, *self.probes]

    @property
    def purchases(self) -> int:
        """How many purchases were published so far."""
        return sum(map(len, self._bought.values()))

    # What happens

    async def register(self) -> None:
        """Let everybody sign up, every second with consent to marketing."""
        await settle(self._suite.ops_urls, SETTLED_SECONDS)
        async with httpx.AsyncClient(trust_env=False) as client:
            told = await client.post(f"{self._suite.sink_url}/behaviour", json=SLOW_MAIL)
            told.raise_for_status()
        self._before = await read_totals(self._suite)
        await self._publish([_registration(n, who) for n, who in enumerate(self.customers)])
        await settle(self._suite.ops_urls, SETTLED_SECONDS)

    async def buy(self) -> None:
        """Let buyers buy, round after round, until `stop`."""
        async with asyncio.TaskGroup() as group:
            while not self._stopping.is_set():
                buying = self.chance.sample(self.buyers, BUYERS_A_ROUND)
                group.create_task(self._publish([self._purchase(who) for who in buying]))
                await asyncio.sleep(ROUND_SECONDS)  # the pace of the load; nothing is waited for

    def stop(self) -> None:
        """Begin no further round."""
        self._stopping.set()

    async def probe(self) -> float:
        """Let the probes buy, and return after how many seconds all of them were thanked."""
        begun = time.monotonic()
        await self._publish([self._purchase(who) for who in self.probes])
        missing = set(self.probes)
        async with httpx.AsyncClient(timeout=3, trust_env=False) as client:
            while missing:
                took = time.monotonic() - begun
                assert took < RECOVERED_SECONDS, f"after {took:.0f} s not thanked: {missing}"
                missing -= {who for who in missing if await self._is_thanked(client, who)}
                await asyncio.sleep(POLL_SECONDS)
        return time.monotonic() - begun

    async def _is_thanked(self, client: httpx.AsyncClient, who: str) -> bool:
        try:
            answer = await client.get(f"{self._suite.sink_url}/messages?to={_address(who)}")
        except httpx.TransportError:
            return False
        return bool(answer.json()["items"])

    async def _publish(self, events: list[External]) -> None:
        async def send(channel: Channel, turn: asyncio.Semaphore) -> None:
            async with turn:
                await channel(events)

        await asyncio.gather(*(send(*channel) for channel in self._channels))

    def _purchase(self, who: str) -> External:
        minor = self.chance.randrange(1, 6_000)
        number = len(self._bought[who])
        self._bought[who].append(minor)
        data = {
            "customer": who,
            "order": f"{who}-{number}",
            "occurred_at": NOW,
            "currency": "USD",
            "lines": [{"sku": "cd", "quantity": 1, "net_minor": minor}],
        }
        return External(f"purchase-{who}-{number}", "purchase.recorded", data)

    # What there is to see

    async def wait_in_flight(self) -> int:
        """Return how many events are on their way, as soon as there are some."""
        async with OpsClient(self._suite.ops_urls) as client:
            while True:
                open_ = count_open(await read_standings(client))
                if open_:
                    return open_

    async def check(self) -> None:
        """Wait until nothing is open: totals grew by what was published, and no mail is twice."""
        for name in self._suite.replicas:
            await asyncio.to_thread(self._suite.wait_ready, name)
        await settle(self._suite.ops_urls, SETTLED_SECONDS)
        found = await read_totals(self._suite)
        found.subtract(self._before)
        expected = self.expect()
        differences = [
            f"{name} grew by {found[name]} instead of {expected[name]}"
            for name in sorted(found.keys() | expected.keys())
            if found[name] != expected[name]
        ]
        assert not differences, differences
        reconciled = await reconcile(self._suite.ops_urls)
        assert reconciled.differences == []
        assert (reconciled.parked, reconciled.in_flight, reconciled.missing) == (0, 0, 0)

    def expect(self) -> Counter[str]:
        """Count what must have been added to every total."""
        people, consents = len(self.customers), (len(self.customers) + 1) // 2
        amounts = [minor for bought in self._bought.values() for minor in bought]
        bought, revenue = len(amounts), sum(amounts)
        earning = [minor // 100 for minor in amounts if minor >= 100]
        points, earned = sum(earning), len(earning)
        buyers = len(self._bought)
        valued = sum(sum(bought) >= VALUED_MINOR for bought in self._bought.values())
        published = {
            "contacts": people + consents + bought,
            "loyalty": people + earned,
            "notifications": 2 * bought,
            "analytics": bought + valued,
        }
        return Counter(
            {
                "contacts.contacts": people,
                "contacts.references": people,
                "contacts.consents": consents,
                "contacts.marketing_consents": consents,
                "contacts.purchases": bought,
                "contacts.revenue_gross_minor": revenue,
                "contacts.external_events": people + bought,
                "contacts.timeline": sum(published.values()),
                "loyalty.members": people,
                "loyalty.purchases": bought,
                "loyalty.points.pending": points,
                "loyalty.lots.pending": earned,
                "loyalty.lot_points.pending": points,
                "loyalty.programme.issued": points,
                "loyalty.journals": earned,
                "loyalty.lines": 2 * earned,
                "notifications.messages.sent": bought,
                "notifications.by_rule.thank-you.sent": bought,
                "notifications.recipients": people,
                "notifications.marketing_consents": consents,
                "analytics.facts.contact_registered": people,
                "analytics.facts.purchase": bought,
                "analytics.facts.points_pending": earned,
                "analytics.facts.message_sent": bought,
                "analytics.revenue_gross_minor": revenue,
                "analytics.revenue_minor": revenue,
                "analytics.live_revenue_minor": revenue,
                "analytics.contacts_with_purchase": buyers,
                "analytics.segment_entered": valued,
                "analytics.segment_members": valued,
                "sink.total": bought,
                "sink.distinct": bought,
                **{f"{service}.published": number for service, number in published.items()},
            }
        )


def _address(who: str) -> str:
    return f"{who}@customer.example"


def _registration(number: int, who: str) -> External:
    consents = [{"purpose": "marketing"}] if number % 2 == 0 else []
    data = {"customer": who, "given_name": "Ada", "email": _address(who), "consents": consents}
    return External(f"registration-{who}", "contact.registered", data)


async def read_totals(suite: Suite) -> Counter[str]:
    """Read every service's totals, the sink's, and how many events each stream has."""
    found: Counter[str] = Counter()
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        for service in SERVICES:
            answer = (await client.get(f"{suite.api_url(service)}/v1/totals")).raise_for_status()
            found.update(_flat(service, answer.json()))
        found.update(_flat("sink", (await client.get(f"{suite.sink_url}/count")).json()))
    async with OpsClient(suite.ops_urls) as ops:
        for name, standing in (await read_standings(ops)).items():
            found[f"{name}.published"] = sum(standing.produced.values())
    # tries to hand a mail over are no result: a fault adds some
    found.pop("notifications.attempts", None)
    return found


def _flat(prefix: str, totals: dict[str, Any]) -> Counter[str]:
    found: Counter[str] = Counter()
    for name, value in totals.items():
        path = f"{prefix}.{name}"
        found.update(_flat(path, value) if isinstance(value, dict) else {path: value})
    return found


def count_open(standings: Standings) -> int:
    """Count events on their way: not numbered, sent or applied yet, and mails not handed over."""
    total = 0
    for standing in standings.values():
        total += standing.open_outbox + sum(standing.pending.values())
        total += sum(inbound.end - inbound.position for inbound in standing.inbound.values())
        for other in standings.values():
            if other is not standing:
                reached = standing.positions.get(f"{other.service}.events.v1", {})
                total += sum(n - reached.get(p, 0) for p, n in other.produced.items())
    return total


async def find_leader(suite: Suite, service: str) -> str:
    """Return the name of the replica that holds the lease of a service."""
    names = [name for name in suite.replicas if name.startswith(service)]
    async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
        async with asyncio.timeout(60):
            while True:
                for name, url in zip(names, suite.ops_urls[service], strict=True):
                    answer = await client.get(f"{url}/readyz")
                    if answer.is_success and answer.json()["leader"]:
                        return name
                await asyncio.sleep(POLL_SECONDS)
