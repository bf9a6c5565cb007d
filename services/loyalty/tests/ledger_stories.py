"""Stories for the property tests, and what they must come to.

The oracle knows no order: it is plain arithmetic over what was sold, given back and spent.
"""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from loyalty import store
from rapport.messaging.delivery import Delivery
from rapport.messaging.ids import derived_id
from rapport.messaging.transaction import Tx
from rapport.pgtypes import Connection
from services.loyalty.tests.ledger_world import World, purchase, refund

BASE = datetime(2026, 3, 22, 1, 30, tzinfo=UTC)  # a week before the change of clocks
ZONE = ZoneInfo("Europe/Prague")
ACTIONS = ("spend", "spend", "hold", "release", "part", "reverse")


@dataclass(frozen=True)
class Sale:
    """A purchase of a member and the refunds of it, each net by line."""

    name: str
    member: int
    at: datetime
    nets: tuple[int, ...]
    excluded: tuple[int, ...]
    refunds: tuple[dict[int, int], ...]

    @property
    def purchase_id(self) -> UUID:
        """The purchase's id."""
        return derived_id("purchase", self.name)

    def deliveries(self) -> list[Delivery[Any]]:
        """Return the purchase and its refunds as events."""
        given_back = [
            refund(self.name, self.member, self.at + timedelta(days=n), lines, n)
            for n, lines in enumerate(self.refunds)
        ]
        sale = purchase(self.name, self.member, self.at, *self.nets, excluded=self.excluded)
        return [sale, *given_back]

    def points_left(self) -> list[int]:
        """Count what each line is worth after all refunds."""
        lines = [n for n, net in enumerate(self.nets) if net > 0 and n not in self.excluded]
        total = sum(self.nets[n] for n in lines)
        earned = total // 100
        shares = {n: earned * self.nets[n] // total for n in lines}
        if lines:
            shares[lines[-1]] += earned - sum(shares.values())
        back = {n: sum(lines.get(n, 0) for lines in self.refunds) for n in lines}
        return [share - share * back[n] // self.nets[n] for n, share in shares.items()]

    def active_from(self) -> datetime:
        """Return the same wall-clock time two weeks later."""
        wall = self.at.astimezone(ZONE).replace(tzinfo=None) + timedelta(days=14)
        return wall.replace(tzinfo=ZONE).astimezone(UTC)

    def expires_at(self) -> datetime:
        """Return the midnight after a month of being active; lots here begin after midnight."""
        start = self.active_from().astimezone(ZONE).date()
        month = start.month % 12 + 1
        year = start.year + (start.month == 12)
        last = (datetime(year + (month == 12), month % 12 + 1, 1) - timedelta(days=1)).day  # noqa: DTZ001  a local day
        day = datetime(year, month, min(start.day, last)) + timedelta(days=1)  # noqa: DTZ001  the same
        return day.replace(tzinfo=ZONE).astimezone(UTC)


def worth(sales: Sequence[Sale], cap: int | None = None) -> dict[str, int]:
    """Count by name what one member's sales are worth after refunds and, by day, under the cap."""
    used: Counter[date] = Counter()
    found = {}
    for sale in sorted(sales, key=lambda sale: (sale.at, sale.purchase_id.bytes)):
        day = sale.at.astimezone(ZONE).date()
        points = sum(sale.points_left())
        found[sale.name] = points if cap is None else min(points, cap - used[day])
        used[day] += found[sale.name]
    return found


@dataclass(frozen=True)
class Step:
    """One batch, the hours that pass before it and what a member does with points after it."""

    batch: list[Delivery[Any]]
    hours: int
    spender: int
    points: int
    action: str


@st.composite
def sales(draw: st.DrawFn, days: int) -> list[Sale]:
    """Draw up to eight purchases of two members, with refunds that never exceed a line."""
    drawn = []
    for number in range(draw(st.integers(1, 8))):
        nets = tuple(draw(st.lists(st.integers(0, 3000), min_size=1, max_size=3)))
        left = list(nets)
        refunds = []
        for _ in range(draw(st.integers(0, 3))):
            back = {n: draw(st.integers(0, most) | st.just(most)) for n, most in enumerate(left)}
            left = [most - back[n] for n, most in enumerate(left)]
            refunds.append(back)
        drawn.append(
            Sale(
                str(number),
                draw(st.integers(1, 2)),
                BASE - timedelta(hours=draw(st.integers(0, 24 * days))),
                nets,
                tuple(draw(st.sets(st.integers(0, 2), max_size=1))),
                tuple(refunds),
            )
        )
    return drawn


@st.composite
def stories(draw: st.DrawFn, *, spending: bool, days: int = 60) -> tuple[list[Sale], list[Step]]:
    """Draw purchases and refunds in any order, some twice, in batches, while time passes."""
    drawn = draw(sales(days))
    events = [event for sale in drawn for event in sale.deliveries()]
    events += draw(st.lists(st.sampled_from(events), max_size=6))
    steps, waiting = [], draw(st.permutations(events))
    while waiting:
        size = draw(st.integers(1, len(waiting)))
        batch, waiting = waiting[:size], waiting[size:]
        hours = draw(st.sampled_from([0, 0, 1, 24, 24 * 7, 24 * 30]))
        points = draw(st.sampled_from([0, 5, 40, 40])) if spending else 0
        action = draw(st.sampled_from(ACTIONS))
        steps.append(Step(batch, hours, draw(st.integers(1, 2)), points, action))
    return drawn, steps


@asynccontextmanager
async def fresh_world(connection: Connection) -> AsyncIterator[World]:
    """Begin a world of its own and forget it afterwards."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield World(connection, BASE)
    finally:
        await transaction.rollback()


async def live(world: World, steps: Sequence[Step], cut: int = 1000) -> Counter[int]:
    """Let everything happen, batches in lists of so many; return what each member spent."""
    spent: Counter[int] = Counter()
    for step in steps:
        await world.advance(world.now + timedelta(hours=step.hours))
        for start in range(0, len(step.batch), cut):
            await world.deliver(*step.batch[start : start + cut])
        spent[step.spender] += await act(world, step)
    return spent


async def act(world: World, step: Step) -> int:
    """Do what the step's member does; return by how much it raises what the member has spent."""
    held = await world.hold(step.spender, step.points)
    if held is None or step.action == "hold":
        return 0
    if step.action == "release":
        await world.release(held)
        return 0
    captured = await world.capture(held, 1 if step.action == "part" else None)
    if step.action != "reverse":
        return captured
    await world.reverse(held)
    return 0


async def assert_closed(world: World) -> None:
    """Check that journals close and that lots, debts and lines say the same."""
    totals = await store.count_totals(Tx(world.connection, world.now))
    assert totals["journals_unbalanced"] == 0
    assert totals["lot_points"] == {key: totals["points"][key] for key in ("pending", "active")}
    assert totals["owed"] == totals["points"]["debt"]
    assert totals["refunds_waiting"] == 0
    found = await world.connection.fetchrow(
        """
        select (select coalesce(sum(held), 0)::bigint from lot) as lots,
            (select coalesce(sum(points), 0)::bigint from redemption where state = 'held') as holds,
            (select coalesce(sum(captured), 0)::bigint from redemption
                where state = 'captured') as captured
        """
    )
    assert found is not None
    assert found["lots"] == found["holds"] == totals["points"]["held"]
    assert found["captured"] == totals["programme"]["redeemed"]
    everything = totals["points"] | {"debt": -totals["points"]["debt"]}
    programme = totals["programme"]
    spent_or_expired = programme["redeemed"] + programme["expired"]
    assert sum(everything.values()) + spent_or_expired == programme["issued"]
