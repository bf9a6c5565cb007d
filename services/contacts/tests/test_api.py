"""The public API on a real Postgres, through ASGI."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from functools import partial
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest
from fastapi import FastAPI

from contacts.api import router
from contacts.handlers.inbound import accept
from rapport import problem
from rapport.clock import Clock
from rapport.database import Database
from rapport.messaging.inbox import External

BATCH = "application/cloudevents-batch+json"
STRUCTURED = "application/cloudevents+json"
TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


@pytest.fixture
async def db(own_database: str) -> AsyncIterator[Database]:
    opened = await Database.open(own_database, Clock(simulated=False))
    yield opened
    await opened.close()


@pytest.fixture
async def client(db: Database) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    app.include_router(router)
    problem.install(app)
    app.state.service = SimpleNamespace(database=db, definition=SimpleNamespace(accept=accept))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://contacts/v1") as opened:
        yield opened


def sale(id_: str = "1", order: str = "o1", customer: str = "7", net: int = 1000) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": id_,
        "source": "cdnow",
        "type": "purchase.recorded",
        "data": {
            "customer": customer,
            "order": order,
            "occurred_at": "1997-03-02T12:00:00+01:00",
            "currency": "USD",
            "lines": [{"sku": "cd", "quantity": 1, "net_minor": net}],
        },
    }


async def send(
    client: httpx.AsyncClient, document: object, kind: str = STRUCTURED
) -> httpx.Response:
    return await client.post(
        "/events", content=orjson.dumps(document), headers={"content-type": kind}
    )


async def outbox(db: Database, columns: str = "type") -> list[Any]:
    rows = await db.pool.fetch(f"select {columns} from rapport.outbox order by number")  # noqa: S608
    return [tuple(row) if len(row) > 1 else row[0] for row in rows]


def field_of(response: httpx.Response) -> str:
    assert response.headers["content-type"] == "application/problem+json"
    (error,) = response.json()["errors"]
    assert error["reason"]
    return str(error["field"])


# Contacts


async def test_a_contact_is_registered_read_and_changed(
    client: httpx.AsyncClient, db: Database
) -> None:
    made = await client.post(
        "/contacts",
        json={"given_name": "Ada", "references": [{"system": "shop", "number": "77"}]},
    )
    assert (made.status_code, made.headers["etag"]) == (201, '"1"')
    where = made.headers["location"].removeprefix("/v1")
    read = await client.get(where)
    assert read.json() == made.json()
    assert read.json()["references"] == [{"system": "shop", "number": "77"}]
    changed = await client.patch(
        where, json={"given_name": None, "email": "a@x.example"}, headers={"if-match": '"1"'}
    )
    assert (changed.status_code, changed.headers["etag"]) == (200, '"2"')
    assert (changed.json()["given_name"], changed.json()["email"]) == (None, "a@x.example")
    assert (await client.get(where)).json() == changed.json()
    assert await outbox(db) == [
        "rapport.contacts.contact-registered.v1",
        "rapport.contacts.contact-updated.v1",
    ]
    facts = (await client.get(f"{where}/timeline")).json()["items"]
    assert facts[0]["details"]["changed"] == ["given_name", "email"]


async def test_an_update_needs_the_version_that_was_read(
    client: httpx.AsyncClient, db: Database
) -> None:
    where = (await client.post("/contacts", json={})).headers["location"].removeprefix("/v1")
    without = await client.patch(where, json={"phone": "1"})
    assert (without.status_code, field_of(without)) == (428, "If-Match")
    stale = await client.patch(where, json={"phone": "1"}, headers={"if-match": '"9"'})
    assert (stale.status_code, field_of(stale)) == (412, "If-Match")
    assert len(await outbox(db)) == 1


async def test_of_two_updates_at_once_one_wins(client: httpx.AsyncClient, db: Database) -> None:
    where = (await client.post("/contacts", json={})).headers["location"].removeprefix("/v1")
    answers = await asyncio.gather(
        *(
            client.patch(where, json={"phone": str(n)}, headers={"if-match": '"1"'})
            for n in range(5)
        )
    )
    assert sorted(a.status_code for a in answers) == [200, 412, 412, 412, 412]
    assert len(await outbox(db)) == 2


async def test_unknown_contacts_are_not_found_and_leave_no_key(
    client: httpx.AsyncClient, db: Database
) -> None:
    nobody = f"/contacts/{uuid4()}"
    form = {
        "purpose": "marketing",
        "channel": "email",
        "granted": True,
        "wording_version": "1",
        "recipient": "Shop",
    }
    answers = [
        await client.get(nobody),
        await client.patch(nobody, json={}, headers={"if-match": '"1"'}),
        await client.get(f"{nobody}/consents"),
        await client.post(f"{nobody}/consents", json=form),
        await client.get(f"{nobody}/timeline"),
        await client.get(f"{nobody}/purchases"),
    ]
    assert {a.status_code for a in answers} == {404}
    assert await db.pool.fetchval("select count(*) from rapport.key") == 0


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"email": "nobody"}, "email"),
        ({"zone": "Europe/Brno"}, "zone"),
        ({"given_name": "A\0"}, "given_name"),
        ({"surname": "A"}, "surname"),
        ({"references": [{"system": "moon", "number": "1"}]}, "references"),
    ],
)
async def test_a_bad_contact_is_refused_naming_the_field(
    client: httpx.AsyncClient, db: Database, form: dict[str, Any], field: str
) -> None:
    answer = await client.post("/contacts", json=form)
    assert (answer.status_code, field_of(answer)) == (422, field)
    assert await outbox(db) == []


async def test_a_reference_belongs_to_one_contact(client: httpx.AsyncClient) -> None:
    form = {"references": [{"system": "shop", "number": "77"}]}
    assert (await client.post("/contacts", json=form)).status_code == 201
    again = await client.post("/contacts", json=form)
    assert (again.status_code, field_of(again)) == (409, "references")


async def test_an_event_finds_the_contact_that_was_registered_with_its_reference(
    client: httpx.AsyncClient,
) -> None:
    form = {"references": [{"system": "cdnow", "number": "7"}]}
    contact_id = (await client.post("/contacts", json=form)).json()["id"]
    await send(client, sale())
    bought = (await client.get(f"/contacts/{contact_id}/purchases")).json()["items"]
    assert [(p["order"], p["lines"][0]["net_minor"]) for p in bought] == [("o1", 1000)]


async def test_contacts_are_listed_by_cursor(client: httpx.AsyncClient) -> None:
    made = {(await client.post("/contacts", json={})).json()["id"] for _ in range(5)}
    seen: list[str] = []
    cursor = None
    while True:
        params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/contacts", params=params)).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == sorted(made)
    for bad in ("x", "e30", "WyJhIl0", "ÿ"):
        answer = await client.get("/contacts", params={"cursor": bad})
        assert (answer.status_code, field_of(answer)) == (422, "cursor")


async def test_contacts_are_found_by_number(client: httpx.AsyncClient) -> None:
    form = {"references": [{"system": "shop", "number": "77"}]}
    made = (await client.post("/contacts", json=form)).json()
    await client.post("/contacts", json={})
    found = await client.get("/contacts", params={"system": "shop", "number": "77"})
    assert found.json()["items"] == [made]
    half = await client.get("/contacts", params={"system": "shop"})
    assert (half.status_code, field_of(half)) == (422, "number")


# Idempotency


async def test_the_same_key_gets_the_first_answer(client: httpx.AsyncClient, db: Database) -> None:
    headers = {"idempotency-key": "k1"}
    answers = await asyncio.gather(
        *(client.post("/contacts", json={"phone": "1"}, headers=headers) for _ in range(4))
    )
    answers.append(await client.post("/contacts", json={"phone": "1"}, headers=headers))
    assert {(a.status_code, a.headers["etag"], a.text) for a in answers} == {
        (201, '"1"', answers[0].text)
    }
    assert len(await outbox(db)) == 1
    other = await client.post("/contacts", json={"phone": "2"}, headers=headers)
    assert (other.status_code, field_of(other)) == (422, "Idempotency-Key")


async def test_a_refused_request_may_be_mended_under_its_key(client: httpx.AsyncClient) -> None:
    headers = {"idempotency-key": "k1"}
    await client.post("/sources", json={"source": "web", "reference_system": "shop"})
    where = (await client.post("/contacts", json={})).headers["location"].removeprefix("/v1")
    stale = await client.patch(where, json={}, headers=headers | {"if-match": '"9"'})
    mended = await client.patch(where, json={}, headers=headers | {"if-match": '"1"'})
    assert (stale.status_code, mended.status_code) == (412, 200)


# Consents, sources


async def test_consents_are_a_list_of_which_the_newest_counts(
    client: httpx.AsyncClient, db: Database
) -> None:
    where = (await client.post("/contacts", json={})).headers["location"].removeprefix("/v1")
    form = {"purpose": "marketing", "channel": "email", "wording_version": "2", "recipient": "Shop"}
    for granted in (True, False):
        made = await client.post(f"{where}/consents", json=form | {"granted": granted})
        assert made.status_code == 201
    listed = (await client.get(f"{where}/consents")).json()["items"]
    assert [(c["granted"], c["current"]) for c in listed] == [(False, True), (True, False)]
    assert listed[0] == made.json()
    assert listed[0]["event_id"] == str((await outbox(db, "event_id"))[-1])
    bad = await client.post(f"{where}/consents", json=form | {"granted": True, "channel": "owl"})
    assert (bad.status_code, field_of(bad)) == (422, "channel")


async def test_a_source_has_one_reference_system(client: httpx.AsyncClient) -> None:
    first = await client.post("/sources", json={"source": "web"})
    assert (first.status_code, first.json()["reference_system"]) == (201, "web")
    assert (await client.post("/sources", json={"source": "web"})).status_code == 200
    other = await client.post("/sources", json={"source": "web", "reference_system": "shop"})
    assert (other.status_code, field_of(other)) == (409, "reference_system")
    page = (await client.get("/sources", params={"limit": 3})).json()
    rest = (await client.get("/sources", params={"cursor": page["next_cursor"]})).json()
    assert [s["source"] for s in page["items"] + rest["items"]] == [
        "cdnow",
        "till-1",
        "till-2",
        "web",
    ]


# External events


async def test_one_event_structured_and_binary_and_again(
    client: httpx.AsyncClient, db: Database
) -> None:
    first = await send(client, sale() | {"traceparent": TRACE})
    assert first.status_code == 202
    (result,) = first.json()["results"]
    assert result["status"] == "accepted"
    assert await outbox(db, "type, trace") == [
        ("rapport.contacts.contact-registered.v1", TRACE),
        ("rapport.contacts.purchase-recorded.v1", TRACE),
    ]
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "%31",
        "ce-source": "cdnow",
        "ce-type": "purchase.recorded",
        "content-type": "application/json; charset=utf-8",
    }
    again = await client.post("/events", json=sale()["data"], headers=headers)
    assert again.json()["results"] == [result | {"status": "duplicate"}]
    assert len(await outbox(db)) == 2


async def test_a_batch_has_a_result_for_each_event_in_order(client: httpx.AsyncClient) -> None:
    batch = [
        sale("1"),
        sale("2", "o2") | {"source": "nobody"},
        "no event",
        sale("1"),
        sale("3", "o1", net=1),
        {**sale("4", "o4"), "data": {"customer": "7", "pad": "x" * 300_000}},
        sale("5", "o5"),
    ]
    answer = await send(client, batch, BATCH)
    assert answer.status_code == 202
    results = answer.json()["results"]
    assert [(r["status"], r.get("field")) for r in results] == [
        ("accepted", None),
        ("rejected", "source"),
        ("rejected", "data"),
        ("duplicate", None),
        ("rejected", "order"),
        ("rejected", "data"),
        ("accepted", None),
    ]
    assert results[4]["reason"] == "order_conflict"
    assert results[5]["reason"] == "data_too_large"


async def test_a_full_batch_takes_two_transactions_and_a_longer_one_is_refused(
    client: httpx.AsyncClient, db: Database
) -> None:
    batch = [sale(str(n), f"o{n}", str(n % 9)) for n in range(1000)]
    answer = await send(client, batch, BATCH)
    assert [r["status"] for r in answer.json()["results"]] == ["accepted"] * 1000
    assert await db.pool.fetchval("select count(*) from purchase") == 1000
    longer = await send(client, [*batch, sale("x")], BATCH)
    assert (longer.status_code, field_of(longer)) == (413, "data")
    assert (await send(client, [], BATCH)).json() == {"results": []}


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"type": "no.such"}, 422, "type"),
        ({"source": "nobody"}, 422, "source"),
        ({"id": None}, 422, "id"),
        ({"id": "i\0"}, 422, "id"),
        ({"id": "i" * 257}, 422, "id"),
        ({"specversion": "0.3"}, 422, "specversion"),
        ({"time": "yesterday"}, 422, "time"),
        ({"time": "2026-01-01T00:00:00"}, 422, "time"),
        ({"data": None}, 422, "data"),
        ({"data": [1]}, 422, "data"),
        (
            {"data": sale()["data"] | {"lines": [{"sku": "a", "quantity": 1}]}},
            422,
            "lines[0].net_minor",
        ),
        ({"data": {"customer": "7", "pad": "x" * 300_000}}, 413, "data"),
        ({"data_base64": "!"}, 422, "data_base64"),
    ],
)
async def test_a_bad_event_is_a_problem_that_names_the_field(
    client: httpx.AsyncClient, db: Database, change: dict[str, Any], status: int, field: str
) -> None:
    answer = await send(client, sale() | change)
    assert (answer.status_code, field_of(answer)) == (status, field)
    assert await outbox(db) == []


async def test_conflicts_are_409(client: httpx.AsyncClient) -> None:
    await send(client, sale())
    reused = await send(client, sale(net=5))
    assert (reused.status_code, field_of(reused)) == (409, "id")
    conflict = await send(client, sale("2", net=5))
    assert (conflict.status_code, field_of(conflict)) == (409, "order")


async def test_bytes_that_are_no_event(client: httpx.AsyncClient) -> None:
    for kind, body, status in (
        (STRUCTURED, b"\xff\xfe", 422),
        (STRUCTURED, b"[" * 100_000, 422),
        (STRUCTURED, b"", 422),
        (BATCH, b"{}", 400),
        (BATCH, b"\x80", 400),
        (BATCH, b"x" * (4 * 1024 * 1024 + 1), 413),
    ):
        answer = await client.post("/events", content=body, headers={"content-type": kind})
        assert (answer.status_code, field_of(answer)) == (status, "data")


async def test_a_header_that_is_not_utf8_is_named(client: httpx.AsyncClient) -> None:
    headers = [(b"ce-specversion", b"1.0"), (b"ce-id", b"\xff"), (b"ce-source", b"cdnow")]
    answer = await client.post("/events", content=b"{}", headers=headers)
    assert (answer.status_code, field_of(answer)) == (422, "ce-id")


async def test_data_may_come_as_base64(client: httpx.AsyncClient) -> None:
    document = sale()
    document["data_base64"] = base64.b64encode(orjson.dumps(document.pop("data"))).decode()
    assert (await send(client, document)).status_code == 202


async def test_the_same_events_by_two_ways_at_once_count_once(db: Database) -> None:
    """HTTP and Kafka bring the same events in other cuts and another order, concurrently."""

    def event(n: int, kind: str, **body: str) -> External:
        customer = {"customer": str(n % 7)}
        return External("cdnow", f"{kind}{n}", kind, None, customer | body)

    events = []
    for n in range(120):
        body = sale(order=f"o{n}")["data"] | {"customer": str(n % 7)}
        events.append(External("cdnow", f"p{n}", "purchase.recorded", None, body))
        money = {"occurred_at": "1997-04-01T12:00:00Z", "currency": "USD"}
        events.append(event(n, "purchase.refunded", order=f"o{n}", **money))
        choice = {"purpose": "marketing", "channel": "email"}
        events.append(event(n, "consent.given", **choice))

    async def bring(order: list[External], size: int) -> None:
        for start in range(0, len(order), size):
            part = order[start : start + size]
            await db.transact(partial(accept, part))

    await asyncio.gather(bring(events, 50), bring(events[::-1], 37), bring(events, 360))
    row = await db.pool.fetchrow(
        "select (select count(*) from contact) contacts, (select count(*) from consent)"
        " consents, (select count(*) from purchase) purchases, (select count(*) from refund)"
        " refunds, (select count(*) from rapport.inbox) entries, (select count(*) from"
        " rapport.outbox) events, (select sum(net_minor) from refund_line)::int refunded"
    )
    assert row is not None
    assert dict(row) == {
        "contacts": 7,
        "consents": 120,
        "purchases": 120,
        "refunds": 120,
        "entries": 360,
        "events": 7 + 360,
        "refunded": 120_000,
    }


async def test_totals_are_counted_from_the_tables(client: httpx.AsyncClient) -> None:
    await send(client, [sale("1"), sale("2", "o2", "8", 500)], BATCH)
    totals = (await client.get("/totals")).json()
    assert totals["contacts"] == totals["provisional"] == totals["purchases"] == 2
    assert (totals["revenue_gross_minor"], totals["refunded_minor"]) == (1500, 0)
    assert totals["timeline"] == 4
