"""Redemptions, from HTTP to Postgres; parallel ones in real transactions."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from rapport.messaging.ids import derived_id
from rapport.pgtypes import Connection
from services.loyalty.tests.ledger_world import World, contact, merged, purchase, refund

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
WINDOW = timedelta(days=14)
PATH = f"/v1/members/{contact(1)}/redemptions"


@pytest.fixture
async def world(committed: Connection) -> World:
    """Give the member ten active points."""
    world = World(committed, MONDAY)
    async with committed.transaction():
        await world.deliver(purchase("a", 1, MONDAY - WINDOW, 1000))
    return world


async def set_clock(world: World, now: datetime) -> None:
    await world.connection.execute("update rapport.clock set now = $1, fire_until = $1", now)


async def balance(http: httpx.AsyncClient) -> dict[str, int]:
    found: dict[str, int] = (await http.get(f"/v1/members/{contact(1)}")).json()["balance"]
    return found


async def hold(http: httpx.AsyncClient, points: int, **headers: str) -> dict[str, Any]:
    answer = await http.post(PATH, json={"points": points}, headers=headers)
    assert answer.status_code == 201
    found: dict[str, Any] = answer.json()
    return found


async def test_authorise_capture_and_reverse(http: httpx.AsyncClient, world: World) -> None:
    answer = await http.post(PATH, json={"points": 8, "reference": "order 7"})
    assert answer.status_code == 201
    held = answer.json()
    assert held == {
        "id": held["id"],
        "contact_id": str(contact(1)),
        "state": "held",
        "points": 8,
        "captured": 0,
        "reference": "order 7",
        "authorised_at": "2026-03-02T09:00:00Z",
        "held_until": "2026-03-02T09:30:00Z",
        "allocations": [
            {
                "purchase_id": str(derived_id("purchase", "a")),
                "line": "0",
                "points": 8,
                "captured": 0,
            }
        ],
    }
    path = f"{PATH}/{held['id']}"
    assert answer.headers["location"] == path
    assert (await http.get(path)).json() == held
    assert await balance(http) == {"pending": 0, "active": 2, "held": 8, "debt": 0}
    captured = await http.post(f"{path}/capture", json={"points": 5})
    assert captured.status_code == 200
    assert (captured.json()["state"], captured.json()["captured"]) == ("captured", 5)
    assert await balance(http) == {"pending": 0, "active": 5, "held": 0, "debt": 0}
    assert (await http.post(f"{path}/reverse")).json()["state"] == "reversed"
    assert await balance(http) == {"pending": 0, "active": 10, "held": 0, "debt": 0}
    types = await world.connection.fetch("select type from rapport.outbox order by number")
    assert [row["type"].split(".")[2] for row in types] == ["points-redeemed", "points-restored"]


async def test_capture_takes_all_when_nothing_is_said(
    http: httpx.AsyncClient, world: World
) -> None:
    assert world.now == MONDAY
    held = await hold(http, 8)
    answer = await http.post(f"{PATH}/{held['id']}/capture")
    assert answer.json()["captured"] == 8
    assert (await http.post(f"{PATH}/{held['id']}/capture")).json() == answer.json()


async def test_release_gives_points_back(http: httpx.AsyncClient, world: World) -> None:
    held = await hold(http, 8)
    for _ in range(2):
        answer = await http.post(f"{PATH}/{held['id']}/release")
        assert (answer.status_code, answer.json()["state"]) == (200, "released")
    assert await balance(http) == {"pending": 0, "active": 10, "held": 0, "debt": 0}
    refused = await http.post(f"{PATH}/{held['id']}/capture")
    assert refused.status_code == 409
    assert refused.json()["errors"] == [
        {"field": "state", "reason": "is released and would have to be held"}
    ]
    assert await world.connection.fetchval("select count(*) from rapport.timer") == 0


async def test_reads_release_a_hold_by_time_alone(http: httpx.AsyncClient, world: World) -> None:
    held = await hold(http, 8)
    await set_clock(world, MONDAY + timedelta(minutes=30))
    assert (await http.get(f"{PATH}/{held['id']}")).json()["state"] == "released"
    assert await balance(http) == {"pending": 0, "active": 10, "held": 0, "debt": 0}
    assert (await http.post(f"{PATH}/{held['id']}/capture")).status_code == 409
    await hold(http, 10)


async def test_active_less_debt_is_all_that_can_be_held(
    http: httpx.AsyncClient, world: World
) -> None:
    held = await hold(http, 6)
    async with world.connection.transaction():
        await world.deliver(refund("a", 1, MONDAY, {0: 700}))
    assert await balance(http) == {"pending": 0, "active": 0, "held": 6, "debt": 3}
    await http.post(f"{PATH}/{held['id']}/release")
    answer = await http.post(PATH, json={"points": 4})
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"] == [
        {"field": "points", "reason": "are more than the 3 that can be spent"}
    ]
    await hold(http, 3)


async def test_twenty_at_once_for_all_points_and_one_wins(
    http: httpx.AsyncClient, world: World
) -> None:
    answers = await asyncio.gather(*(http.post(PATH, json={"points": 10}) for _ in range(20)))
    assert sorted(a.status_code for a in answers) == [201] + [409] * 19
    assert await balance(http) == {"pending": 0, "active": 0, "held": 10, "debt": 0}
    assert await world.connection.fetchval("select count(*) from redemption") == 1


async def test_twenty_captures_at_once_spend_once(http: httpx.AsyncClient, world: World) -> None:
    path = f"{PATH}/{(await hold(http, 10))['id']}"
    steps = ["capture", "release"] * 10
    answers = await asyncio.gather(*(http.post(f"{path}/{step}") for step in steps))
    assert sorted(a.status_code for a in answers) == [200] * 10 + [409] * 10
    redeemed = await world.connection.fetchval(
        "select coalesce(sum(points), 0)::bigint from journal_line where account = 'redeemed'"
    )
    assert (await balance(http))["active"] + redeemed == 10


async def test_one_key_gives_one_answer_also_at_once(http: httpx.AsyncClient, world: World) -> None:
    headers = {"Idempotency-Key": "k1"}
    wishes = [http.post(PATH, json={"points": 7}, headers=headers) for _ in range(8)]
    answers = [
        *await asyncio.gather(*wishes),
        await http.post(PATH, json={"points": 7}, headers=headers),
    ]
    assert {a.status_code for a in answers} == {201}
    assert len({a.text for a in answers}) == 1
    assert len({a.headers["location"] for a in answers}) == 1
    assert await world.connection.fetchval("select count(*) from redemption") == 1
    assert await world.connection.fetchval("select contact_id from rapport.answer") == contact(1)


async def test_one_key_for_another_request_is_refused_by_name(
    http: httpx.AsyncClient, world: World
) -> None:
    assert world.now == MONDAY
    held = await hold(http, 3, **{"Idempotency-Key": "k1"})
    for path, body in ((PATH, {"points": 4}), (f"{PATH}/{held['id']}/release", None)):
        answer = await http.post(path, json=body, headers={"Idempotency-Key": "k1"})
        assert answer.status_code == 422
        assert [error["field"] for error in answer.json()["errors"]] == ["Idempotency-Key"]
    assert (await balance(http))["held"] == 3


async def test_refused_request_may_be_sent_again_with_its_key(
    http: httpx.AsyncClient, world: World
) -> None:
    headers = {"Idempotency-Key": "k1"}
    assert (await http.post(PATH, json={"points": 11}, headers=headers)).status_code == 409
    async with world.connection.transaction():
        await world.deliver(purchase("b", 1, MONDAY - WINDOW, 500))
    assert (await http.post(PATH, json={"points": 11}, headers=headers)).status_code == 201


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "points"),
        ({"points": 0}, "points"),
        ({"points": "8"}, "points"),
        ({"points": 1, "reference": ""}, "reference"),
        ({"points": 1, "amount": 2}, "amount"),
    ],
)
async def test_wrong_wish_is_refused_by_name(
    http: httpx.AsyncClient, body: dict[str, object], field: str
) -> None:
    answer = await http.post(PATH, json=body)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_strangers_and_others_redemptions_are_not_found(
    http: httpx.AsyncClient, world: World
) -> None:
    held = await hold(http, 3)
    async with world.connection.transaction():
        await world.deliver(purchase("b", 2, MONDAY, 500))
    for member in (contact(2), contact(9)):
        path = f"/v1/members/{member}/redemptions/{held['id']}"
        assert (await http.get(path)).status_code == 404
        assert (await http.post(f"{path}/capture")).status_code == 404
    unknown = f"/v1/members/{contact(9)}/redemptions"
    assert (await http.post(unknown, json={"points": 1})).status_code == 404
    keys = await world.connection.fetchval(
        "select count(*) from rapport.key where id = $1", contact(9)
    )
    assert keys == 0


async def test_redemption_follows_a_merge(http: httpx.AsyncClient, world: World) -> None:
    held = await hold(http, 3)
    async with world.connection.transaction():
        for record in merged(1, 2, MONDAY):
            await world.deliver(record)
    answer = await http.post(f"{PATH}/{held['id']}/capture")
    assert answer.json()["contact_id"] == str(contact(2))
    key = await world.connection.fetchval("select key from rapport.outbox")
    assert key == contact(2)
