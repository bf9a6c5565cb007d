"""The demo's life: customers and 1997 in bulk, then 1998 day by day and week by week."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from rapport.opsclient import OpsClient
from rapport.settling import advance_clock, set_clock, settle
from rapport_local.demo.access import Access
from rapport_local.demo.calendar import (
    CHECKED_ON,
    FIRST_DAY,
    FIRST_WEEK,
    LAST_DAY,
    Step,
    bulk,
    midnight,
    published_by,
    steps,
)
from rapport_local.demo.dataset import SOURCE, External, Purchase, registrations, sales
from rapport_local.demo.display import Display, Phase
from rapport_local.demo.publish import COPIES, Publisher

BULK_DEADLINE_SECONDS = 900.0
STEP_DEADLINE_SECONDS = 180.0

OnCheck = Callable[[date], Awaitable[None]]


@dataclass
class Lived:
    """What was measured on the way; `live_since` is a real instant, nothing was open then."""

    external_events: int = 0
    bulk_events: int = 0
    bulk_seconds: float = 0.0
    bulk_published: int = 0
    live_seconds: float = 0.0
    live_since: datetime | None = None
    http: dict[str, int] = field(default_factory=dict)
    kafka_records: int = 0


class Life:
    """Publishes what happened, at the time of a clock that it moves itself."""

    def __init__(
        self, access: Access, display: Display, on_check: OnCheck, until: date = LAST_DAY
    ) -> None:
        """`on_check` is called after settling, when totals are checked; `until` is the last day.

        `on_step`, if set, is called after each step of 1998, before anything settled.
        """
        self._access = access
        self._display = display
        self._on_check = on_check
        self._until = until
        self.on_step: OnCheck | None = None
        self.lived = Lived()

    async def live(self, purchases: Sequence[Purchase], *, refunds: bool) -> Lived:
        """Publish everything, each event twice, in its time."""
        events = published_by(sales(purchases, refunds=refunds), self._until)
        customers = registrations(purchases, midnight(FIRST_DAY))
        self.lived.external_events = len(customers) + len(events)
        async with OpsClient(self._access.ops, timeout_seconds=30) as ops:
            await set_clock(ops, midnight(FIRST_DAY))
            sources = f"{self._access.api('contacts')}/v1/sources"
            await self._access.ask(sources, "POST", json={"source": SOURCE})
            await self._live_bulk(ops, [*customers, *bulk(events)])
            self.lived.live_since = datetime.now(UTC) - timedelta(milliseconds=1)
            begun = time.monotonic()
            plan = list(steps(events, self._until))
            days = [step for step in plan if step.last_day < FIRST_WEEK]
            await self._live_steps(ops, "1998, day by day", days)
            await self._live_steps(ops, "1998, week by week", plan[len(days) :])
            self.lived.live_seconds = time.monotonic() - begun
        return self.lived

    async def _live_bulk(self, ops: OpsClient, events: Sequence[External]) -> None:
        begun = time.monotonic()
        title = "customers and sales of 1997"
        with self._display.phase(title, COPIES * len(events)) as phase:
            async with self._publisher(phase) as publisher:
                await publisher.publish(events)
                self._note(publisher)
            phase.note("waiting until nothing is open")
            standings = await settle(ops, BULK_DEADLINE_SECONDS)
        self.lived.bulk_events = len(events)
        self.lived.bulk_seconds = time.monotonic() - begun
        self.lived.bulk_published = sum(sum(s.produced.values()) for s in standings.values())

    async def _live_steps(self, ops: OpsClient, title: str, plan: Sequence[Step]) -> None:
        if not plan:
            return
        with self._display.phase(title, len(plan)) as phase:
            async with self._publisher(None) as publisher:
                for step in plan:
                    phase.note(step.last_day.isoformat())
                    await advance_clock(ops, step.midnight, None, STEP_DEADLINE_SECONDS)
                    await publisher.publish(step.events)
                    phase.done()
                    if self.on_step:
                        await self.on_step(step.last_day)
                    if step.last_day in (CHECKED_ON, self._until):
                        await settle(ops, STEP_DEADLINE_SECONDS)
                        await self._on_check(step.last_day)
                self._note(publisher)

    async def again(self, purchases: Sequence[Purchase], *, refunds: bool) -> None:
        """Publish the whole file again into a copy that has lived; nothing may change."""
        customers = registrations(purchases, midnight(FIRST_DAY))
        sold = published_by(sales(purchases, refunds=refunds), self._until)
        events = [*customers, *sold]
        with self._display.phase("the whole file again", COPIES * len(events)) as phase:
            async with self._publisher(phase) as publisher:
                await publisher.publish(events)
                self._note(publisher)
            phase.note("waiting until nothing is open")
            await settle(self._access.ops, BULK_DEADLINE_SECONDS)

    def _publisher(self, phase: Phase | None) -> Publisher:
        def sent(copies: int) -> None:
            if phase:
                phase.done(copies)

        return Publisher(self._access.api("contacts"), self._access.kafka, sent)

    def _note(self, publisher: Publisher) -> None:
        for status, number in publisher.statuses.items():
            self.lived.http[status] = self.lived.http.get(status, 0) + number
        self.lived.kafka_records += publisher.records
