"""Handlers on a real Postgres: what each event does, and what is written and said."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from loyalty.handlers.refunds import ForeignPurchaseError
from rapport.messaging.transaction import Published
from rapport.pgtypes import Connection
from services.loyalty.tests.ledger_world import (
    World,
    contact,
    merged,
    purchase,
    refund,
    registered,
)

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
WINDOW = timedelta(days=14)


@pytest.fixture
def world(rolled_back: Connection) -> World:
    return World(rolled_back, MONDAY)


def said(published: list[Published]) -> list[tuple[str, dict[str, Any]]]:
    """Shorten events to their name and what they say beside ids."""
    bodies = [(event.type.split(".")[2], msgspec.json.decode(event.body)) for event in published]
    return [
        (name, {key: value for key, value in body.items() if not key.endswith("_id")})
        for name, body in bodies
    ]


def points(pending: int = 0, active: int = 0, held: int = 0, debt: int = 0) -> dict[str, int]:
    return {"pending": pending, "active": active, "held": held, "debt": debt}


async def test_every_registered_contact_becomes_a_member_once(world: World) -> None:
    found = await world.deliver(registered(1, MONDAY), registered(1, MONDAY))
    assert said(found) == [("member-enrolled", {"enrolled_at": "2026-03-02T09:00:00Z"})]
    assert await world.deliver(registered(1, MONDAY)) == []


async def test_purchase_is_pending_until_its_window_ends(world: World) -> None:
    await world.deliver(registered(1, MONDAY))
    found = await world.deliver(purchase("a", 1, MONDAY, 70_000, 30_000))
    assert said(found) == [
        ("points-pending", {"points": 1000, "active_from": "2026-03-16T09:00:00Z"})
    ]
    assert await world.balance(1) == points(pending=1000)
    assert await world.advance(MONDAY + WINDOW - timedelta(seconds=1)) == []
    found = await world.advance(MONDAY + WINDOW)
    assert said(found) == [("points-awarded", {"points": 1000})]
    assert await world.balance(1) == points(active=1000)
    assert await world.advance(MONDAY + 2 * WINDOW) == []


async def test_purchase_older_than_its_window_is_active_at_once(world: World) -> None:
    await world.deliver(registered(1, MONDAY))
    found = await world.deliver(purchase("a", 1, MONDAY - WINDOW, 999))
    assert said(found) == [("points-awarded", {"points": 9})]
    assert await world.balance(1) == points(active=9)
    assert await world.connection.fetchval("select count(*) from rapport.timer") == 0


async def test_purchase_of_a_stranger_enrols_first(world: World) -> None:
    found = await world.deliver(
        purchase("a", 1, MONDAY, 500), purchase("b", 1, MONDAY, 100), purchase("c", 2, MONDAY, 50)
    )
    names = [(event.key, name) for event, (name, _) in zip(found, said(found), strict=True)]
    assert [name for key, name in names if key == contact(1)] == [
        "member-enrolled",
        "points-pending",
        "points-pending",
    ]
    assert [name for key, name in names if key == contact(2)] == ["member-enrolled"]


async def test_repeated_purchase_in_a_list_enrols_where_it_came_first(world: World) -> None:
    first, second = purchase("a", 1, MONDAY, 50), purchase("b", 1, MONDAY, 50)
    [enrolled] = await world.deliver(first, second, first)
    assert enrolled.cause.cause_id == first.id


async def test_purchase_without_points_leaves_a_trace_and_says_nothing(world: World) -> None:
    await world.deliver(registered(1, MONDAY))
    free = purchase("free", 1, MONDAY, 0)
    card = purchase("gift card", 1, MONDAY, 5000, excluded=[0])
    assert await world.deliver(free, card) == []
    rows = await world.connection.fetch("select points from earning")
    assert [row["points"] for row in rows] == [0, 0]
    assert await world.connection.fetchval("select count(*) from lot") == 0
    assert await world.deliver(refund("free", 1, MONDAY, {0: 0})) == []


async def test_the_same_purchase_again_changes_nothing(world: World) -> None:
    once = purchase("a", 1, MONDAY, 500)
    await world.deliver(once, once)
    assert await world.deliver(once) == []
    assert await world.balance(1) == points(pending=5)


async def test_refund_takes_pending_points_and_the_rest_becomes_active(world: World) -> None:
    await world.deliver(purchase("a", 1, MONDAY, 1000, 500))
    found = await world.deliver(refund("a", 1, MONDAY, {0: 299}))
    assert said(found) == [("points-reversed", {"from_pending": 2})]
    assert said(await world.advance(MONDAY + WINDOW)) == [("points-awarded", {"points": 13})]
    found = await world.deliver(refund("a", 1, world.now, {0: 701, 1: 500}, number=2))
    assert said(found) == [("points-reversed", {"from_active": 13})]
    assert await world.balance(1) == points()


async def test_the_same_refund_again_changes_nothing(world: World) -> None:
    await world.deliver(purchase("a", 1, MONDAY, 1000))
    once = refund("a", 1, MONDAY, {0: 300})
    await world.deliver(once, once)
    assert await world.deliver(once) == []
    assert await world.balance(1) == points(pending=7)


async def test_refund_of_spent_points_is_owed_and_repaid_before_anything_can_be_spent(
    world: World,
) -> None:
    await world.deliver(purchase("a", 1, MONDAY - WINDOW, 1000))
    assert await world.spend(1, 8) == 8
    found = await world.deliver(refund("a", 1, MONDAY, {0: 1000}))
    assert said(found) == [("points-reversed", {"from_active": 2, "to_debt": 8})]
    assert await world.balance(1) == points(debt=8)
    found = await world.deliver(
        purchase("b", 1, MONDAY - WINDOW, 300), purchase("c", 1, MONDAY, 600)
    )
    assert said(found)[0] == ("points-awarded", {"points": 3, "repaid": 3})
    assert await world.balance(1) == points(pending=6, debt=5)
    found = await world.advance(MONDAY + WINDOW)
    assert said(found) == [("points-awarded", {"points": 6, "repaid": 5})]
    assert await world.balance(1) == points(active=1)


async def test_programme_can_absorb_what_a_refund_does_not_find(world: World) -> None:
    await world.connection.execute("update programme set shortfall = 'absorb'")
    await world.deliver(purchase("a", 1, MONDAY - WINDOW, 1000))
    await world.spend(1, 8)
    found = await world.deliver(refund("a", 1, MONDAY, {0: 1000}))
    assert said(found) == [("points-reversed", {"from_active": 2})]
    assert await world.balance(1) == points()


async def test_refund_of_somebody_elses_purchase_fails(world: World) -> None:
    await world.deliver(purchase("a", 1, MONDAY, 1000))
    with pytest.raises(ForeignPurchaseError):
        await world.deliver(refund("a", 2, MONDAY, {0: 1000}))


async def test_version_is_chosen_by_the_time_of_the_purchase_not_of_its_arrival(
    world: World,
) -> None:
    await world.connection.execute(
        "insert into programme values (2, $1, 'Europe/Prague', 0, 3, 'debt', null)", MONDAY
    )
    found = await world.deliver(
        purchase("before", 1, MONDAY - timedelta(seconds=1), 1000),
        purchase("after", 2, MONDAY, 1000),
    )
    earned = [body["points"] for name, body in said(found) if name != "member-enrolled"]
    assert earned == [10, 30]
    rows = await world.connection.fetch("select programme_version, points from earning order by 1")
    assert [tuple(row) for row in rows] == [(1, 10), (2, 30)]


async def test_points_expire_when_their_time_comes(world: World) -> None:
    await world.connection.execute("update programme set expiry_months = 1")
    await world.deliver(purchase("a", 1, MONDAY, 1000))
    await world.advance(MONDAY + WINDOW)
    await world.deliver(refund("a", 1, MONDAY, {0: 300}))
    midnight = datetime(2026, 4, 16, 22, tzinfo=UTC)
    assert await world.advance(midnight - timedelta(seconds=1)) == []
    assert said(await world.advance(midnight)) == [("points-expired", {"points": 7})]
    assert await world.balance(1) == points()


async def test_expiry_enabled_later_begins_with_a_whole_period(world: World) -> None:
    """What was earned before keeps what it was promised; pending points of then survive."""
    await world.deliver(purchase("active", 1, MONDAY - WINDOW, 1000))
    await world.deliver(purchase("pending", 1, MONDAY - timedelta(days=13), 500))
    await world.connection.execute(
        "insert into programme values (2, $1, 'Europe/Prague', 14, 1, 'debt', 1)", MONDAY
    )
    await world.deliver(purchase("after", 1, MONDAY, 300))
    await world.deliver(purchase("late", 1, MONDAY - timedelta(days=90), 200))
    first = datetime(2026, 4, 16, 22, tzinfo=UTC)  # the first local midnight after 16 March + 1
    await world.advance(first - timedelta(seconds=1))
    assert await world.balance(1) == points(active=20)
    assert said(await world.advance(first)) == [("points-expired", {"points": 3})]
    await world.advance(MONDAY + timedelta(days=800))
    assert await world.balance(1) == points(active=17)


async def test_points_that_lapsed_meanwhile_are_issued_and_expired_at_once(world: World) -> None:
    await world.connection.execute("update programme set expiry_months = 1")
    found = await world.deliver(purchase("a", 1, MONDAY - timedelta(days=90), 1000))
    assert said(found)[1:] == [
        ("points-awarded", {"points": 10}),
        ("points-expired", {"points": 10}),
    ]
    assert await world.balance(1) == points()
    legs = await world.connection.fetch("select leg from journal order by id")
    assert [row["leg"] for row in legs] == ["issue", "expire"]


async def test_merge_moves_lots_and_debt_and_timers_follow(world: World) -> None:
    await world.deliver(purchase("a", 1, MONDAY - WINDOW, 1000), purchase("b", 2, MONDAY, 500))
    await world.deliver(purchase("c", 2, MONDAY - WINDOW, 700))
    await world.spend(2, 7)
    await world.deliver(refund("c", 2, MONDAY, {0: 700}))
    for record in merged(2, 1, MONDAY):
        await world.deliver(record)
    assert await world.balance(2) == points()
    assert await world.balance(1) == points(pending=5, active=3)
    found = await world.advance(MONDAY + WINDOW)
    assert [event.key for event in found] == [contact(1)]
    assert await world.balance(1) == points(active=8)
    await world.deliver(refund("b", 1, MONDAY, {0: 500}))
    assert await world.balance(1) == points(active=3)


async def test_merge_applied_again_changes_nothing(world: World) -> None:
    await world.deliver(purchase("a", 2, MONDAY - WINDOW, 1000), registered(1, MONDAY))
    for _ in range(2):
        for record in merged(2, 1, MONDAY):
            await world.deliver(record)
    assert await world.balance(1) == points(active=10)
