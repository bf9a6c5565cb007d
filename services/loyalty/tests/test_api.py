"""The public API, from HTTP to Postgres."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from rapport.pgtypes import Connection
from services.loyalty.tests.ledger_world import World, contact, merged, purchase

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
WINDOW = timedelta(days=14)


@pytest.fixture
def world(committed: Connection) -> World:
    return World(committed, MONDAY)


async def in_transaction(world: World, *names: str) -> None:
    async with world.connection.transaction():
        await world.deliver(*(purchase(name, 1, MONDAY, 1000) for name in names))


async def test_balance_shows_points_by_state(http: httpx.AsyncClient, world: World) -> None:
    async with world.connection.transaction():
        await world.deliver(purchase("a", 1, MONDAY - WINDOW, 1000), purchase("b", 1, MONDAY, 250))
    answer = await http.get(f"/v1/members/{contact(1)}")
    assert answer.status_code == 200
    assert answer.json() == {
        "contact_id": str(contact(1)),
        "enrolled_at": "2026-02-16T09:00:00Z",
        "balance": {"pending": 2, "active": 10, "held": 0, "debt": 0},
    }


async def test_unknown_member_is_a_problem(http: httpx.AsyncClient) -> None:
    for path in ("", "/ledger"):
        answer = await http.get(f"/v1/members/{contact(9)}{path}")
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
    assert (await http.get("/v1/members/nobody")).status_code == 422


async def test_merged_member_answers_under_the_survivors_name(
    http: httpx.AsyncClient, world: World
) -> None:
    async with world.connection.transaction():
        await world.deliver(purchase("a", 1, MONDAY, 1000), purchase("b", 2, MONDAY, 250))
        for record in merged(2, 1, MONDAY):
            await world.deliver(record)
    answer = (await http.get(f"/v1/members/{contact(2)}")).json()
    assert answer["contact_id"] == str(contact(1))
    assert answer["balance"]["pending"] == 12


async def test_statement_pages_by_cursor_newest_first(
    http: httpx.AsyncClient, world: World
) -> None:
    for name in "abcde":
        await in_transaction(world, name)
    path = f"/v1/members/{contact(1)}/ledger"
    seen, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        page = (
            await http.get(path, params={"limit": 2} | ({"cursor": cursor} if cursor else {}))
        ).json()
        seen += page["entries"]
        cursor, pages = page["next"], pages + 1
    assert pages == 3
    assert [entry["purchase_id"] for entry in seen] == [
        str(purchase(name, 1, MONDAY).event.purchase_id) for name in "edcba"
    ]
    assert seen[0] == {
        "id": seen[0]["id"],
        "booked_at": "2026-03-02T09:00:00Z",
        "rule": "purchase",
        "leg": "issue",
        "source_event": str(purchase("e", 1, MONDAY).id),
        "purchase_id": seen[0]["purchase_id"],
        "change": {"pending": 10, "active": 0, "held": 0, "debt": 0},
    }


@pytest.mark.parametrize("query", [{"cursor": "x"}, {"limit": "0"}, {"limit": "501"}])
async def test_wrong_page_is_refused_by_name(
    http: httpx.AsyncClient, query: dict[str, str]
) -> None:
    answer = await http.get(f"/v1/members/{contact(1)}/ledger", params=query)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == list(query)


async def test_new_version_of_the_programme_counts_from_its_time(
    http: httpx.AsyncClient, world: World
) -> None:
    first = await http.get("/v1/programme")
    assert first.json()["in_force"] == {
        "version": 1,
        "valid_from": "1900-01-01T00:00:00Z",
        "zone": "Europe/Prague",
        "pending_days": 14,
        "points_per_unit": 1,
        "shortfall": "debt",
        "expiry_months": None,
        "daily_cap": None,
        "hold_minutes": 30,
    }
    change = {"points_per_unit": 2, "valid_from": "2026-03-05T00:00:00+01:00"}
    answer = await http.put(
        "/v1/programme", json=change, headers={"If-Match": first.headers["etag"]}
    )
    assert answer.status_code == 200
    assert answer.headers["etag"] == '"2"'
    assert answer.json()["in_force"]["version"] == 1
    assert [version["version"] for version in answer.json()["versions"]] == [1, 2]
    async with world.connection.transaction():
        await world.deliver(
            purchase("a", 1, MONDAY, 1000), purchase("b", 1, MONDAY + timedelta(days=3), 1000)
        )
    balance = (await http.get(f"/v1/members/{contact(1)}")).json()["balance"]
    assert balance["pending"] == 30


async def test_programme_changes_only_on_top_of_the_newest_version(
    http: httpx.AsyncClient,
) -> None:
    assert (await http.put("/v1/programme", json={})).status_code == 428
    for etag, status in (('"1"', 200), ('"1"', 412), ('"2"', 200)):
        answer = await http.put("/v1/programme", json={}, headers={"If-Match": etag})
        assert answer.status_code == status


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"zone": "Middle/Earth"}, "zone"),
        ({"zone": "../etc/passwd"}, "zone"),
        ({"pending_days": -1}, "pending_days"),
        ({"points_per_unit": "2"}, "points_per_unit"),
        ({"shortfall": "forgive"}, "shortfall"),
        ({"expiry_months": 0}, "expiry_months"),
        ({"daily_cap": 0}, "daily_cap"),
        ({"hold_minutes": 0}, "hold_minutes"),
        ({"valid_from": "2026-03-01T00:00:00Z"}, "valid_from"),
        ({"valid_from": "2026-04-01T00:00:00"}, "valid_from"),
    ],
)
async def test_wrong_parameter_is_refused_by_name(
    http: httpx.AsyncClient, change: dict[str, object], field: str
) -> None:
    answer = await http.put("/v1/programme", json=change, headers={"If-Match": '"1"'})
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert (await http.get("/v1/programme")).headers["etag"] == '"1"'


async def test_totals_come_from_the_tables(http: httpx.AsyncClient, world: World) -> None:
    await in_transaction(world, "a", "b")
    totals = (await http.get("/v1/totals")).json()
    assert totals["members"] == 1
    assert totals["points"] == {"pending": 20, "active": 0, "held": 0, "debt": 0}
    assert totals["lots"] == {"pending": 2, "active": 0}
    assert (totals["journals"], totals["journals_unbalanced"], totals["lines"]) == (2, 0, 4)
