"""The HTTP API on a database of its own, with committed transactions."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from analytics import api
from rapport import problem
from rapport.clock import Clock
from rapport.database import Database
from rapport.messaging.delivery import Delivery
from rapport.pgtypes import required
from services.analytics.tests.story import contact, handle, merged, purchase, refund, registered
from services.analytics.tests.test_models import SAMPLE

ANNE, BERT = contact(1), contact(2)
NOON = datetime(1998, 7, 1, 10, tzinfo=UTC)


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    """A database whose clock stands at noon of 1998-07-01 in Prague."""
    database = await Database.open(dsn, Clock(simulated=True), size=4)
    await database.pool.execute("insert into rapport.clock (now, fire_until) values ($1, $1)", NOON)
    yield database
    await database.close()


@pytest.fixture
async def client(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    problem.install(app)
    app.include_router(api.router)
    app.state.service = SimpleNamespace(
        database=database, settings=SimpleNamespace(fit_seconds=60.0)
    )
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://analytics") as client:
        yield client


async def commit(database: Database, *deliveries: Delivery[Any]) -> None:
    await database.add_keys(sorted({d.contact_id for d in deliveries}))
    await database.transact(lambda tx: handle(tx, deliveries))


async def test_every_metric_says_its_definition_and_freshness(client: httpx.AsyncClient) -> None:
    names = (await client.get("/v1/metrics")).json()
    assert set(names) == {
        "revenue_daily",
        "revenue_monthly",
        "purchases",
        "repeat_rate",
        "rfm",
        "bgnbd",
        "messages",
        "points",
        "segment",
    }
    for name, definition in names.items():
        answer = (await client.get(f"/v1/metrics/{name}")).json()
        assert answer["definition"] == definition
        assert answer["as_of"] == answer["to"] == "1998-07-01"
        assert answer["freshness"]["computed_at"].startswith("1998-07-01T10:00:00")


async def test_revenue_by_day_and_month(client: httpx.AsyncClient, database: Database) -> None:
    await commit(database, purchase(ANNE, "1", 3, 700), refund(ANNE, "1", 33, 200))
    daily = (await client.get("/v1/metrics/revenue_daily?to=1997-01-31")).json()
    assert daily["values"] == [
        {
            "day": "1997-01-04",
            "purchases": 1,
            "refunds": 0,
            "gross_minor": 700,
            "refunded_minor": 0,
            "revenue_minor": 700,
        }
    ]
    assert daily["freshness"]["facts_until"].startswith("1998-07-01T10:00:00")
    monthly = (await client.get("/v1/metrics/revenue_monthly")).json()["values"]
    assert [(m["month"], m["revenue_minor"]) for m in monthly] == [
        ("1997-01", 700),
        ("1997-02", -200),
    ]


async def test_what_cannot_be_known_is_not_zero(
    client: httpx.AsyncClient, database: Database
) -> None:
    rate = (await client.get("/v1/metrics/repeat_rate")).json()
    assert rate["values"]["rate"] is None
    assert "365 days" in rate["unknown"]
    assert "no customers" in (await client.get("/v1/metrics/bgnbd")).json()["unknown"]
    await commit(database, purchase(ANNE, "1", 3, 700))
    answer = (await client.get("/v1/metrics/bgnbd")).json()
    assert answer["values"] is None
    assert "no repeat purchases" in answer["unknown"]
    assert "fewer than 25" in (await client.get("/v1/metrics/rfm")).json()["unknown"]
    answer = (await client.get(f"/v1/metrics/bgnbd?contact_id={BERT}")).json()
    assert "no kept purchase" in answer["unknown"]


async def test_the_published_parameters_come_out_of_purchases(
    client: httpx.AsyncClient, database: Database
) -> None:
    """The sample's customers buy again: x + 1 days, the last of them t_x after the first."""
    with gzip.open(SAMPLE, "rt") as lines:
        next(lines)
        rows = [line.split(",") for line in lines]
    deliveries = []
    for number, (_, x, recency, age) in enumerate(rows):
        repeats, last, first = int(x), round(float(recency) * 7), 272 - round(float(age) * 7)
        days = [first, *(first + n for n in range(1, repeats)), *([first + last] * (repeats > 0))]
        deliveries += [
            purchase(contact(number), f"{number}-{n}", day, 100)
            for n, day in enumerate(sorted(days))
        ]
    for start in range(0, len(deliveries), 500):
        await commit(database, *deliveries[start : start + 500])
    answer = (
        await client.get(f"/v1/metrics/bgnbd?as_of=1997-09-30&contact_id={contact(0)}")
    ).json()
    fitted = answer["values"]
    assert [round(fitted[name], 2) for name in ("r", "alpha", "a", "b")] == [0.24, 4.41, 0.79, 2.43]
    assert round(fitted["log_likelihood"], 0) == -9582
    assert fitted["customers"] == 2357
    assert round(fitted["expected_purchases"], 2) == 1.23
    assert round(fitted["probability_alive"], 2) == 0.73


@pytest.mark.parametrize(
    ("path", "field", "status"),
    [
        ("/v1/metrics/revenue", "name", 404),
        ("/v1/metrics/rfm?as_of=yesterday", "as_of", 422),
        ("/v1/metrics/rfm?from=1998-02-01&to=1998-01-01", "from", 422),
        ("/v1/metrics/rfm?to=1998-02-01&as_of=1998-01-01", "to", 422),
        ("/v1/metrics/bgnbd?weeks=0", "weeks", 422),
        (f"/v1/contacts/{BERT}/profile", "contact_id", 404),
        ("/v1/contacts/nobody/profile", "contact_id", 422),
        ("/v1/segments/none", "code", 404),
        ("/v1/segments/none/members", "code", 404),
    ],
)
async def test_a_wrong_request_is_a_problem_that_names_the_field(
    client: httpx.AsyncClient, path: str, field: str, status: int
) -> None:
    response = await client.get(path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert [error["field"] for error in response.json()["errors"]] == [field]


async def test_a_profile_by_either_name_after_a_merge(
    client: httpx.AsyncClient, database: Database
) -> None:
    await commit(database, registered(ANNE), registered(BERT), purchase(BERT, "1", 3, 20_000))
    before = (await client.get(f"/v1/contacts/{ANNE}/profile")).json()
    assert (before["kept_purchases"], before["segments"]) == (0, [])
    await commit(database, *merged(BERT, ANNE))
    for name in (ANNE, BERT):
        profile = (await client.get(f"/v1/contacts/{name}/profile")).json()
        assert profile["contact_id"] == str(ANNE)
        assert (profile["kept_purchases"], profile["monetary_minor"]) == (1, 20_000)
        assert (profile["first_kept_on"], profile["segments"]) == ("1997-01-04", ["valued"])
        assert profile["definition"]
        assert profile["freshness"]["facts_until"]


async def test_totals_are_counted_from_the_facts(
    client: httpx.AsyncClient, database: Database
) -> None:
    await commit(database, registered(ANNE), purchase(ANNE, "1", 3, 20_000))
    await commit(database, refund(ANNE, "1", 4, 15_000))
    await database.pool.execute(
        "update revenue_day set gross_minor = gross_minor + 1 where refunds = 0"
    )
    assert (await client.get("/v1/totals")).json() == {
        "facts": {"contact_registered": 1, "purchase": 1, "refund": 1},
        "revenue_minor": 5_000,
        "revenue_gross_minor": 20_000,
        "refunded_minor": 15_000,
        "live_revenue_minor": 5_001,
        "contacts_with_purchase": 1,
        "waiting_refunds": 0,
        "segment_members": 0,
        "segment_entered": 1,
        "segment_exited": 1,
        "segment_joined": 0,
    }


async def test_a_new_rule_lets_everybody_enter_and_leave_once(
    client: httpx.AsyncClient, database: Database
) -> None:
    """More contacts than one transaction takes; the same rule again changes nothing."""
    for start in range(0, 1200, 400):
        people = [purchase(contact(n), str(n), 3, 100) for n in range(start, start + 400)]
        await commit(database, *people)
    rule = {"all": [{"measure": "kept_purchases", "at_least": 1}]}
    url = "/v1/segments/buyers"
    preview = (await client.put(f"{url}?dry_run=true", json=rule)).json()
    assert preview == {"members": 1200, "entering": 1200, "leaving": 0}
    assert (await client.get(url)).status_code == 404
    first = (await client.put(url, json=rule)).json()
    assert (first["version"], first["crossed"], first["entered"], first["members"]) == (
        1,
        1200,
        1200,
        1200,
    )
    again = (await client.put(url, json=rule)).json()
    assert (again["version"], again["crossed"]) == (1, 0)
    none = {"all": [{"measure": "kept_purchases", "at_least": 2}]}
    changed = (await client.put(url, json=none)).json()
    assert (changed["version"], changed["exited"], changed["members"]) == (2, 1200, 0)
    told = (
        "select count(*), count(distinct event_id) from rapport.outbox where type like '%segment-%'"
    )
    assert tuple(required(await database.pool.fetchrow(told)).values()) == (2400, 2400)
    assert (await client.post("/v1/rebuild?dry_run=true")).json()["total"] == 0


async def test_members_are_listed_page_by_page(
    client: httpx.AsyncClient, database: Database
) -> None:
    await commit(database, *[purchase(contact(n), str(n), 3, 10_000) for n in range(5)])
    found, after = [], "00000000-0000-0000-0000-000000000000"
    while after:
        page = (await client.get(f"/v1/segments/valued/members?limit=2&after={after}")).json()
        found += [member["contact_id"] for member in page["members"]]
        after = page["next"]
    assert found == sorted(str(contact(n)) for n in range(5))


@pytest.mark.parametrize(
    "rule",
    [
        {"all": []},
        {"all": [{"measure": "shoe_size", "at_least": 1}]},
        {"all": [{"measure": "kept_purchases"}]},
        {"all": [{"measure": "kept_purchases", "at_least": 1.5}]},
        {"any": []},
    ],
)
async def test_a_rule_that_is_none_is_refused(client: httpx.AsyncClient, rule: object) -> None:
    response = await client.put("/v1/segments/strange", json=rule)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"]


async def test_a_rebuild_shows_and_mends_differences(
    client: httpx.AsyncClient, database: Database
) -> None:
    await commit(database, purchase(ANNE, "1", 3, 20_000), purchase(BERT, "2", 3, 5_000))
    await database.pool.execute("update profile set monetary_minor = 1")
    await database.pool.execute("delete from segment_member")
    await database.pool.execute("delete from segment_crossing")
    shown = (await client.post("/v1/rebuild?dry_run=true")).json()
    assert (shown["dry_run"], shown["total"]) == (True, 3)
    wrong = {d["key"]: d for d in shown["differences"] if d["figure"] == "profile"}
    assert wrong[str(ANNE)]["live"]["monetary_minor"] == 1
    assert wrong[str(ANNE)]["rebuilt"]["monetary_minor"] == 20_000
    assert (await client.post("/v1/rebuild?dry_run=true")).json()["total"] == 3
    assert (await client.post("/v1/rebuild")).json()["total"] == 3
    assert (await client.post("/v1/rebuild?dry_run=true")).json()["total"] == 0
    assert (await client.get("/v1/segments")).json()[0]["members"] == 1


async def test_a_rate_is_added_once_and_used(client: httpx.AsyncClient, database: Database) -> None:
    rate = {"valid_from": "1997-01-01", "rate": "0.04"}
    assert (await client.post("/v1/rates/CZK", json=rate)).status_code == 201
    assert (await client.post("/v1/rates/CZK", json=rate)).status_code == 409
    assert (await client.post("/v1/rates/CZK", json=rate | {"rate": 0})).status_code == 422
    await commit(database, purchase(ANNE, "1", 3, 100_000, currency="CZK"))
    profile = (await client.get(f"/v1/contacts/{ANNE}/profile")).json()
    assert (profile["monetary_minor"], profile["currency"]) == (4_000, "USD")


async def test_messages_of_a_day_far_away_are_not_in_the_period(
    client: httpx.AsyncClient,
) -> None:
    path = f"/v1/metrics/messages?from={date(1998, 1, 1)}&to={date(1998, 1, 1) + timedelta(days=9)}"
    assert (await client.get(path)).json()["values"] == []
