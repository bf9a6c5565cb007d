"""Requests to the API of contacts, and what tests ask of the answers."""

from __future__ import annotations

from typing import Any

import httpx
import orjson

from rapport.database import Database

BATCH = "application/cloudevents-batch+json"
STRUCTURED = "application/cloudevents+json"


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
