"""Refunds that wait for their purchase, and refunds of nothing, on a real Postgres."""

from datetime import UTC, datetime, timedelta

import pytest
import structlog

from loyalty import store
from loyalty.handlers.timers import NEXT_ACTION
from rapport import metrics, telemetry_names
from rapport.messaging.transaction import Tx
from rapport.pgtypes import Connection
from services.loyalty.tests.ledger_world import World, contact, purchase, refund, registered
from services.loyalty.tests.test_handlers import points, said

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)


@pytest.fixture
def world(rolled_back: Connection) -> World:
    return World(rolled_back, MONDAY)


async def test_refund_before_its_purchase_waits_and_nothing_behind_it_stops(world: World) -> None:
    assert await world.deliver(refund("a", 1, MONDAY, {0: 400})) == []
    await world.deliver(purchase("other", 1, MONDAY, 100))
    found = await world.deliver(purchase("a", 1, MONDAY, 1000))
    assert said(found) == [
        ("points-pending", {"points": 10, "active_from": "2026-03-16T09:00:00Z"}),
        ("points-reversed", {"from_pending": 4}),
    ]
    assert await world.balance(1) == points(pending=7)
    assert await world.connection.fetchval("select count(*) from waiting_refund") == 0


async def test_refund_that_waits_for_a_week_raises_one_alarm_and_waits_on(world: World) -> None:
    late = refund("a", 1, MONDAY, {0: 400})
    await world.deliver(late, refund("b", 1, MONDAY, {0: 100}))
    await world.deliver(purchase("b", 1, MONDAY, 1000))
    counted = alarms()
    with structlog.testing.capture_logs() as logs:
        await world.advance(MONDAY + timedelta(days=7) - timedelta(seconds=1))
        assert logs == []
        await world.advance(MONDAY + timedelta(days=7, hours=1))
        await world.advance(MONDAY + timedelta(days=30))
        await world.deliver(late)
        await world.advance(MONDAY + timedelta(days=60))
    assert logs == [
        {
            "log_level": "error",
            "event": "refund_waited_too_long",
            "refund_id": str(late.event.refund_id),
            "purchase_id": str(late.event.purchase_id),
            "contact_id": str(contact(1)),
            "age_seconds": (7 * 24 + 1) * 3600,
            "next_action": NEXT_ACTION,
        }
    ]
    assert alarms() == counted + 1
    await world.deliver(purchase("a", 1, MONDAY, 1000))
    assert await world.balance(1) == points(active=15)


def alarms() -> float:
    """Read the metric."""
    found = metrics.STORE.numbers_of(telemetry_names.BUSINESS_OUTCOMES)
    return found.get(("refund_waited_too_long", "purchase_missing"), 0)


async def test_arrival_of_the_purchase_cancels_the_alarm(world: World) -> None:
    await world.deliver(refund("a", 1, MONDAY, {0: 400}))
    assert await world.connection.fetchval("select kind from rapport.timer") == "waiting-refund"
    await world.deliver(purchase("a", 1, MONDAY, 1000))
    kinds = await world.connection.fetch("select kind from rapport.timer")
    assert [row["kind"] for row in kinds] == ["activation"]


@pytest.mark.parametrize("lines", [{}, {0: 0}])
@pytest.mark.parametrize("early", [True, False])
async def test_refund_of_a_free_purchase_is_counted_and_moves_nothing(
    world: World, lines: dict[int, int], *, early: bool
) -> None:
    free, back = purchase("free", 1, MONDAY, 0), refund("free", 1, MONDAY, lines)
    await world.deliver(registered(1, MONDAY))
    found = [e for d in ([back, free] if early else [free, back]) for e in await world.deliver(d)]
    assert found == []
    totals = await store.count_totals(Tx(world.connection, MONDAY))
    assert (totals["refunds"], totals["refunds_waiting"], totals["purchases"]) == (1, 0, 1)
    assert (totals["journals"], totals["lines"], totals["journals_unbalanced"]) == (0, 0, 0)


async def test_refund_of_a_paid_purchase_without_points_says_nothing_either(world: World) -> None:
    await world.deliver(registered(1, MONDAY), purchase("a", 1, MONDAY, 99))
    assert await world.deliver(refund("a", 1, MONDAY, {0: 99})) == []
