"""The daily cap on a real Postgres."""

from datetime import UTC, datetime, timedelta

import pytest

from rapport.pgtypes import Connection
from services.loyalty.tests.ledger_world import World, merged, purchase, refund
from services.loyalty.tests.test_handlers import points, said

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
WINDOW = timedelta(days=14)
HOUR = timedelta(hours=1)
ACTIVE = {"active_from": "2026-03-16T09:00:00Z"}


@pytest.fixture
async def world(rolled_back: Connection) -> World:
    await rolled_back.execute("update programme set daily_cap = 10")
    return World(rolled_back, MONDAY)


async def test_a_day_earns_no_more_than_its_cap(world: World) -> None:
    found = await world.deliver(
        purchase("a", 1, MONDAY, 700), purchase("b", 1, MONDAY + HOUR, 600, 500)
    )
    assert [body["points"] for _, body in said(found)[1:]] == [7, 3]
    assert await world.deliver(purchase("c", 1, MONDAY + 2 * HOUR, 900)) == []
    assert await world.balance(1) == points(pending=10)
    await world.deliver(purchase("d", 2, MONDAY, 900))
    assert await world.balance(2) == points(pending=9)


async def test_the_day_is_the_programmes_not_utcs(world: World) -> None:
    midnight = datetime(2026, 3, 2, 23, tzinfo=UTC)
    await world.deliver(
        purchase("a", 1, midnight - HOUR, 900), purchase("b", 1, midnight + HOUR, 800)
    )
    await world.deliver(purchase("c", 1, midnight, 700))
    assert await world.balance(1) == points(pending=19)


async def test_late_purchase_takes_its_room_by_compensating_journals(world: World) -> None:
    await world.deliver(purchase("later", 1, MONDAY + HOUR, 800))
    found = await world.deliver(purchase("earlier", 1, MONDAY, 700))
    assert said(found) == [
        ("points-pending", {"points": 7, **ACTIVE}),
        ("points-corrected", {"points": -5, "pending": -5}),
    ]
    assert await world.balance(1) == points(pending=10)
    rows = await world.connection.fetch("select rule, leg from journal order by id")
    assert [tuple(row) for row in rows] == [
        ("purchase", "issue"),
        ("purchase", "issue"),
        ("cap", "divide"),
    ]


async def test_refund_frees_room_within_its_day_also_for_a_purchase_that_got_none(
    world: World,
) -> None:
    await world.deliver(purchase("a", 1, MONDAY, 1500), purchase("b", 1, MONDAY + HOUR, 800))
    assert await world.deliver(refund("a", 1, MONDAY, {0: 400})) == []
    found = await world.deliver(refund("a", 1, MONDAY, {0: 500}, number=2))
    assert said(found) == [
        ("points-corrected", {"points": 4, "pending": 4}),
        ("points-reversed", {"from_pending": 4}),
    ]
    found = await world.advance(MONDAY + WINDOW + HOUR)
    assert [body["points"] for _, body in said(found)] == [6, 4]
    assert await world.balance(1) == points(active=10)


async def test_room_freed_after_the_window_is_active_at_once(world: World) -> None:
    await world.deliver(purchase("a", 1, MONDAY, 1500), purchase("b", 1, MONDAY + HOUR, 800))
    await world.advance(MONDAY + 2 * WINDOW)
    found = await world.deliver(refund("a", 1, MONDAY, {0: 1500}))
    assert said(found) == [
        ("points-corrected", {"points": 8, "active": 8}),
        ("points-reversed", {"from_active": 10}),
    ]
    assert await world.balance(1) == points(active=8)


async def test_accepted_spend_stays_when_its_points_lose_their_room(world: World) -> None:
    await world.deliver(purchase("later", 1, MONDAY - WINDOW, 800))
    assert await world.spend(1, 8) == 8
    found = await world.deliver(purchase("earlier", 1, MONDAY - WINDOW - HOUR, 700))
    assert said(found) == [
        ("points-awarded", {"points": 7}),
        ("points-corrected", {"points": -5, "active": -5}),
    ]
    assert await world.balance(1) == points(active=2)


async def test_refund_that_waited_finds_its_capped_purchase(world: World) -> None:
    await world.deliver(refund("a", 1, MONDAY, {0: 600}), purchase("b", 1, MONDAY + HOUR, 800))
    await world.deliver(purchase("a", 1, MONDAY, 1000))
    assert await world.balance(1) == points(pending=10)
    rows = await world.connection.fetch("select granted from capped_line order by occurred_at")
    assert [row["granted"] for row in rows] == [4, 6]


async def test_purchase_counts_by_the_version_in_force_when_it_occurred(world: World) -> None:
    await world.connection.execute(
        "insert into programme values (2, $1, 'Europe/Prague', 14, 1, 'debt', null)", MONDAY
    )
    await world.deliver(
        purchase("before", 1, MONDAY - HOUR, 1500), purchase("after", 1, MONDAY, 900)
    )
    assert await world.balance(1) == points(pending=19)
    assert await world.connection.fetchval("select count(*) from capped_line") == 1


async def test_merge_unites_the_days(world: World) -> None:
    await world.deliver(purchase("a", 1, MONDAY + HOUR, 800), purchase("b", 2, MONDAY, 700))
    await world.deliver(purchase("c", 2, MONDAY - timedelta(days=1), 900))
    records = merged(2, 1, MONDAY)
    said_ = [event for record in records for event in await world.deliver(record)]
    assert said(said_) == [("points-corrected", {"points": -5, "pending": -5})]
    assert await world.balance(1) == points(pending=19)
    await world.deliver(purchase("d", 1, MONDAY - timedelta(days=1), 900), *records)
    assert await world.balance(1) == points(pending=20)


async def test_without_a_cap_purchases_take_one_statement_after_the_programme(
    world: World,
) -> None:
    statements: list[str] = []
    await world.connection.execute("update programme set daily_cap = null")
    with world.connection.query_logger(lambda record: statements.append(record.query)):
        await world.deliver(purchase("a", 1, MONDAY, 700), purchase("b", 2, MONDAY, 600))
        assert await world.balance(1) == points(pending=7)
    lock = next(n for n, sql in enumerate(statements) if "for no key update" in sql)
    first_words = [sql.split()[:2] for sql in statements[lock + 1 :]]
    timers = ["insert", "into"]
    assert first_words[:3] == [["select", "*"], ["--", "Writes"], timers]
