"""`POST /v1/events` and totals on a real Postgres, through ASGI."""

from __future__ import annotations

import asyncio
import base64
from functools import partial
from typing import Any

import httpx
import orjson
import pytest

from contacts.handlers.inbound import accept
from rapport.database import Database
from rapport.messaging.inbox import External
from services.contacts.tests.requests import BATCH, STRUCTURED, field_of, outbox, sale, send

TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


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
