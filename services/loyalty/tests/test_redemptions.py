"""Holds and spends on a real Postgres: rows, events, timers, and how they meet other events."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from loyalty import store
from loyalty.domain.redemption import RefusedError
from rapport.messaging.transaction import Tx
from rapport.pgtypes import Connection
from services.loyalty.tests.ledger_world import World, contact, merged, purchase, refund
from services.loyalty.tests.test_handlers import points, said

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
WINDOW = timedelta(days=14)
HALF_AN_HOUR = timedelta(minutes=30)


@pytest.fixture
def world(rolled_back: Connection) -> World:
    return World(rolled_back, MONDAY)


async def test_hold_moves_points_and_says_nothing(world: World) -> None:
    await world.deliver(purchase("a", 1, MONDAY - WINDOW, 1000))
    before = len(world.published)
    held = await world.hold(1, 8)
    assert held is not None
    assert await world.balance(1) == points(active=2, held=8)
    assert len(world.published) == before
    found = await store.find_redemption(Tx(world.connection, MONDAY), held)
    assert found is not None
    assert (found.state, found.held_until) == ("held", MONDAY + HALF_AN_HOUR)
    assert [(a.line, a.points) for a in found.allocations] == [("0", 8)]


async def test_capture_says_what_was_redeemed(world: World) -> None:
    await world.deliver(purchase("a", 1, MONDAY - WINDOW, 1000))
    held = await world.hold(1, 8)
    assert held is not None
    assert await world.capture(held, 5) == 5
    assert said(world.published[-1:]) == [("points-redeemed", {"points": 5})]
    assert msgspec.json.decode(world.published[-1].body)["redemption_id"] == str(held)
    assert await world.balance(1) == points(active=5)
    count = len(world.published)
    assert await world.capture(held, 5) == 5
    assert len(world.published) == count
    with pytest.raises(RefusedError, match="state is captured"):
        await world.capture(held, 4)


async def test_hold_ends_by_its_timer_and_not_before(world: World) -> None:
    await world.deliver(purchase("a", 1, MONDAY - WINDOW, 1000))
    held = await world.hold(1, 8)
    await world.advance(MONDAY + HALF_AN_HOUR - timedelta(seconds=1))
    assert await world.balance(1) == points(active=2, held=8)
    await world.advance(MONDAY + HALF_AN_HOUR)
    assert await world.balance(1) == points(active=10)
    assert held is not None
    with pytest.raises(RefusedError, match="state is released"):
        await world.capture(held)


async def test_version_in_force_says_how_long_points_are_held(world: World) -> None:
    await world.connection.execute("update programme set hold_minutes = 5")
    await world.deliver(purchase("a", 1, MONDAY - WINDOW, 1000))
    await world.hold(1, 8)
    await world.advance(MONDAY + timedelta(minutes=5))
    assert await world.balance(1) == points(active=10)


async def test_hold_past_its_deadline_counts_as_released_before_the_timer_ran(
    world: World,
) -> None:
    await world.deliver(purchase("a", 1, MONDAY - WINDOW, 1000))
    first = await world.hold(1, 10)
    world.now += HALF_AN_HOUR  # time passes, no timer fires
    again = await world.hold(1, 10)
    assert first is not None
    assert again is not None
    assert await world.balance(1) == points(held=10)
    with pytest.raises(RefusedError, match="state is released"):
        await world.capture(first)
    assert await world.capture(again) == 10
    await world.advance(world.now)
    assert await world.balance(1) == points()


async def test_overdue_hold_is_there_for_a_claw(world: World) -> None:
    await world.deliver(purchase("a", 1, MONDAY - WINDOW, 1000))
    await world.hold(1, 10)
    world.now += HALF_AN_HOUR
    found = await world.deliver(refund("a", 1, world.now, {0: 600}))
    assert said(found) == [("points-reversed", {"from_active": 6})]


async def test_claw_leaves_a_hold_alone(world: World) -> None:
    await world.deliver(purchase("a", 1, MONDAY - WINDOW, 1000))
    held = await world.hold(1, 10)
    found = await world.deliver(refund("a", 1, MONDAY, {0: 600}))
    assert said(found) == [("points-reversed", {"to_debt": 6})]
    assert held is not None
    assert await world.release(held) == []
    assert await world.balance(1) == points(active=4)


async def test_held_points_outlive_their_expiry_and_lapse_on_release(world: World) -> None:
    await world.connection.execute("update programme set expiry_months = 1, hold_minutes = 600")
    await world.deliver(purchase("a", 1, MONDAY - WINDOW, 1000))
    over = datetime(2026, 4, 2, 22, tzinfo=UTC)
    await world.advance(over - timedelta(minutes=1))
    kept, dropped = await world.hold(1, 6), await world.hold(1, 3)
    found = await world.advance(over)
    assert said(found) == [("points-expired", {"points": 1})]
    assert await world.balance(1) == points(held=9)
    assert kept is not None
    assert dropped is not None
    assert said(await world.release(dropped)) == [("points-expired", {"points": 3})]
    assert await world.capture(kept) == 6
    assert await world.balance(1) == points()


async def test_points_past_their_expiry_cannot_be_held_before_the_timer_ran(world: World) -> None:
    await world.connection.execute("update programme set expiry_months = 1")
    await world.deliver(purchase("a", 1, MONDAY - WINDOW, 1000))
    world.now = datetime(2026, 4, 2, 22, tzinfo=UTC)
    assert await world.hold(1, 1) is None


async def test_reversal_restores_the_lots_and_what_has_lapsed_stays_expired(world: World) -> None:
    await world.deliver(purchase("never", 1, MONDAY - 2 * WINDOW, 500))
    await world.connection.execute("update programme set expiry_months = 1")
    await world.deliver(purchase("soon", 1, MONDAY - WINDOW, 1000))
    first, second = await world.hold(1, 4), await world.hold(1, 8)
    assert first is not None
    assert second is not None
    for held in (first, second):
        await world.capture(held)
    assert said(await world.reverse(first)) == [("points-restored", {"points": 4})]
    assert await world.reverse(first) == []
    assert await world.balance(1) == points(active=7)
    await world.advance(MONDAY + timedelta(days=60))
    assert await world.balance(1) == points(active=3)
    assert said(await world.reverse(second)) == [
        ("points-restored", {"points": 2}),
        ("points-expired", {"points": 6}),
    ]
    assert await world.balance(1) == points(active=5)


async def test_released_points_repay_a_debt_and_activation_does_it_first(world: World) -> None:
    await world.deliver(purchase("a", 1, MONDAY - WINDOW, 1000), purchase("b", 1, MONDAY, 300))
    held = await world.hold(1, 10)
    await world.deliver(refund("a", 1, MONDAY, {0: 500}))
    assert await world.hold(1, 1) is None
    assert held is not None
    await world.release(held)
    assert await world.balance(1) == points(pending=3, active=5)


async def test_merge_takes_holds_along(world: World) -> None:
    await world.deliver(purchase("a", 1, MONDAY, 100), purchase("b", 2, MONDAY - WINDOW, 1000))
    captured, held, released = [await world.hold(2, n) for n in (3, 4, 2)]
    assert captured is not None
    assert held is not None
    assert released is not None
    await world.capture(captured)
    for record in merged(2, 1, MONDAY):
        await world.deliver(record)
    assert await world.balance(2) == points()
    assert await world.balance(1) == points(pending=1, active=1, held=6)
    await world.capture(held)
    assert world.published[-1].key == contact(1)
    await world.reverse(captured)
    await world.advance(MONDAY + HALF_AN_HOUR)
    assert await world.balance(1) == points(pending=1, active=6)


async def test_lots_and_lines_agree_on_what_is_held(world: World) -> None:
    await world.deliver(purchase("a", 1, MONDAY - WINDOW, 1000, 500))
    await world.hold(1, 12)
    rows = await world.connection.fetch("select held from lot order by id")
    assert [row["held"] for row in rows] == [10, 2]
    totals = await store.count_totals(Tx(world.connection, MONDAY))
    assert (totals["points"]["held"], totals["journals_unbalanced"]) == (12, 0)
