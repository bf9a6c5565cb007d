"""Any order, repetition and cut of purchases and refunds gives the same balances.

The oracle knows no order: it is plain arithmetic over what was sold, given back and spent.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loyalty import store
from loyalty.handlers import purchases
from rapport.messaging.delivery import Delivery
from rapport.messaging.transaction import Tx
from rapport.pgtypes import Connection
from services.loyalty.tests.ledger_world import World, contact, purchase, refund

pytestmark = pytest.mark.service

BASE = datetime(2026, 3, 22, 1, 30, tzinfo=UTC)  # a week before the change of clocks
ZONE = ZoneInfo("Europe/Prague")
EXAMPLES = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@dataclass(frozen=True)
class Sale:
    """A purchase of a member and the refunds of it, each net by line."""

    name: str
    member: int
    at: datetime
    nets: tuple[int, ...]
    excluded: tuple[int, ...]
    refunds: tuple[dict[int, int], ...]

    def deliveries(self) -> list[Delivery[Any]]:
        """Return the purchase and its refunds as events."""
        given_back = [
            refund(self.name, self.member, self.at + timedelta(days=n), lines, n)
            for n, lines in enumerate(self.refunds)
        ]
        sale = purchase(self.name, self.member, self.at, *self.nets, excluded=self.excluded)
        return [sale, *given_back]

    def points_left(self) -> int:
        """Count what the sale is worth after all its refunds."""
        lines = [n for n, net in enumerate(self.nets) if net > 0 and n not in self.excluded]
        total = sum(self.nets[n] for n in lines)
        earned = total // 100
        shares = {n: earned * self.nets[n] // total for n in lines}
        if lines:
            shares[lines[-1]] += earned - sum(shares.values())
        back = {n: sum(lines.get(n, 0) for lines in self.refunds) for n in lines}
        return sum(share - share * back[n] // self.nets[n] for n, share in shares.items())

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


@dataclass(frozen=True)
class Step:
    """One batch, the hours that pass before it and what a member tries to spend after it."""

    batch: list[Delivery[Any]]
    hours: int
    spender: int
    points: int


@st.composite
def sales(draw: st.DrawFn) -> list[Sale]:
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
                BASE - timedelta(hours=draw(st.integers(0, 24 * 60))),
                nets,
                tuple(draw(st.sets(st.integers(0, 2), max_size=1))),
                tuple(refunds),
            )
        )
    return drawn


@st.composite
def stories(draw: st.DrawFn, *, spending: bool) -> tuple[list[Sale], list[Step]]:
    """Draw purchases and refunds in any order, some twice, in batches, while time passes."""
    drawn = draw(sales())
    events = [event for sale in drawn for event in sale.deliveries()]
    events += draw(st.lists(st.sampled_from(events), max_size=6))
    steps, waiting = [], draw(st.permutations(events))
    while waiting:
        size = draw(st.integers(1, len(waiting)))
        batch, waiting = waiting[:size], waiting[size:]
        hours = draw(st.sampled_from([0, 0, 1, 24, 24 * 7, 24 * 30]))
        points = draw(st.sampled_from([0, 5, 40])) if spending else 0
        steps.append(Step(batch, hours, draw(st.integers(1, 2)), points))
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


async def live(world: World, steps: list[Step]) -> dict[int, int]:
    """Let everything happen; return what each member spent."""
    spent = {1: 0, 2: 0}
    for step in steps:
        await world.advance(world.now + timedelta(hours=step.hours))
        await world.deliver(*step.batch)
        spent[step.spender] += await world.spend(step.spender, step.points)
    return spent


async def assert_closed(world: World) -> None:
    """Check that journals close and that lots, debts and lines say the same."""
    totals = await store.count_totals(Tx(world.connection, world.now))
    assert totals["journals_unbalanced"] == 0
    assert totals["lot_points"] == {key: totals["points"][key] for key in ("pending", "active")}
    assert totals["owed"] == totals["points"]["debt"]
    assert totals["refunds_waiting"] == 0
    everything = totals["points"] | {"debt": -totals["points"]["debt"]}
    programme = totals["programme"]
    spent_or_expired = programme["redeemed"] + programme["expired"]
    assert sum(everything.values()) + spent_or_expired == programme["issued"]


@EXAMPLES
@given(story=stories(spending=True))
async def test_any_order_repetition_and_cut_gives_the_oracles_balances(
    connection: Connection, story: tuple[list[Sale], list[Step]]
) -> None:
    drawn, steps = story
    async with fresh_world(connection) as world:
        spent = await live(world, steps)
        for member in (1, 2):
            own = [sale for sale in drawn if sale.member == member]
            ripe = sum(s.points_left() for s in own if s.active_from() <= world.now)
            pending = sum(s.points_left() for s in own if s.active_from() > world.now)
            net = ripe - spent[member]
            assert await world.balance(member) == {
                "pending": pending,
                "active": max(net, 0),
                "held": 0,
                "debt": max(-net, 0),
            }
        await assert_closed(world)


@EXAMPLES
@given(story=stories(spending=False))
async def test_the_same_holds_while_points_expire(
    connection: Connection, story: tuple[list[Sale], list[Step]]
) -> None:
    drawn, steps = story
    async with fresh_world(connection) as world:
        await connection.execute("update programme set expiry_months = 1")
        await live(world, steps)
        expired = 0
        for member in (1, 2):
            own = [sale for sale in drawn if sale.member == member]
            pending = sum(s.points_left() for s in own if s.active_from() > world.now)
            active = sum(
                s.points_left() for s in own if s.active_from() <= world.now < s.expires_at()
            )
            expired += sum(s.points_left() for s in own if s.expires_at() <= world.now)
            assert await world.balance(member) == {
                "pending": pending,
                "active": active,
                "held": 0,
                "debt": 0,
            }
        await assert_closed(world)
        totals = await store.count_totals(Tx(connection, world.now))
        assert totals["programme"]["expired"] == expired


ROWS = """
select jsonb_build_object(
    'members', (select jsonb_agg(to_jsonb(m) order by m.contact_id) from member m),
    'earnings', (select jsonb_agg(to_jsonb(e) order by e.purchase_id) from earning e),
    'lots', (select jsonb_agg(to_jsonb(l) - 'id' order by l.purchase_id, l.line) from lot l),
    'debts', (select jsonb_agg(to_jsonb(d) order by d.contact_id) from debt d),
    'refunds', (select jsonb_agg(to_jsonb(r) order by r.refund_id) from refund r),
    'waiting', (select jsonb_agg(to_jsonb(w) - 'arrival' order by w.arrival)
        from waiting_refund w),
    'timers', (select jsonb_agg(to_jsonb(t) - 'id' order by t.kind, t.key) from rapport.timer t),
    'journals', (select jsonb_agg(to_jsonb(j) - 'id' order by j.source_event, j.rule, j.leg)
        from journal j),
    'order', (select jsonb_agg(jsonb_build_array(j.contact_id, j.source_event, j.leg)
        order by j.contact_id, j.id) from journal j),
    'lines', (select jsonb_agg(
            jsonb_build_array(j.source_event, j.leg, n.account, n.contact_id, n.points,
                l.purchase_id, l.line)
            order by j.source_event, j.leg, n.account, n.points, l.purchase_id, l.line)
        from journal_line n join journal j on j.id = n.journal_id
        left join lot l on l.id = n.lot_id)
)
"""


async def history(
    connection: Connection, steps: list[Step], cut: int
) -> tuple[Any, dict[Any, list[Any]]]:
    """Live through the steps, each cut into lists of so many; return all rows and events."""
    async with fresh_world(connection) as world:
        for step in steps:
            await world.advance(world.now + timedelta(hours=step.hours))
            for start in range(0, len(step.batch), cut):
                await world.deliver(*step.batch[start : start + cut])
            await world.spend(step.spender, step.points)
        said = {
            contact(member): [
                (event.id, event.type, event.body)
                for event in world.published
                if event.key == contact(member)
            ]
            for member in (1, 2)
        }
        rows = await connection.fetchval(ROWS)
    return rows, said


@EXAMPLES
@given(story=stories(spending=True), cut=st.integers(1, 4))
async def test_any_cut_of_one_list_gives_the_same_rows_and_events(
    connection: Connection, story: tuple[list[Sale], list[Step]], cut: int
) -> None:
    """What `several_per_contact` promises."""
    _, steps = story
    assert await history(connection, steps, 1000) == await history(connection, steps, cut)


@EXAMPLES
@given(story=stories(spending=True))
async def test_the_one_statement_writes_what_the_books_would(
    connection: Connection, story: tuple[list[Sale], list[Step]]
) -> None:
    async def leave_all_alone(batch: purchases.Batch, _tx: Tx) -> set[Any]:
        return {credit.contact_id for credit in batch.credits}

    _, steps = story
    usual = await history(connection, steps, 1000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(purchases, "_credit_usual", leave_all_alone)
        assert await history(connection, steps, 1000) == usual
