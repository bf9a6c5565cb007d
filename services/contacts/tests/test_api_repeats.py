"""Truly parallel repeats of a request under one Idempotency-Key get the first one's answer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import httpx

from rapport.database import Database, connect
from rapport.pgtypes import Connection
from rapport.testing.inprocess import until
from services.contacts.tests.requests import outbox

KEY = {"idempotency-key": "k1"}
WHOSE = "select contact_id from rapport.answer"
COUNT_WAITING = """
select count(*) from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock'
"""


async def answers_at_once(
    db: Database, holder: Connection, *requests: Coroutine[None, None, httpx.Response]
) -> list[httpx.Response]:
    """Start the requests while `holder` keeps what they need; let go when all of them wait."""
    sent = asyncio.gather(*requests)

    async def all_wait() -> bool:
        waiting: int = await db.pool.fetchval(COUNT_WAITING)
        return waiting == len(requests)

    try:
        await until(all_wait, "every request waits")
    finally:
        await holder.execute("rollback")
    return list(await sent)


async def test_an_update_that_is_repeated_meanwhile_gets_the_first_answer(
    client: httpx.AsyncClient, db: Database, dsn: str
) -> None:
    """Not 412, although the second finds the version that the first has made."""
    made = await client.post("/contacts", json={})
    where = made.headers["location"].removeprefix("/v1")
    holder = await connect(dsn)
    await holder.execute("begin; select from rapport.key for update")
    headers = KEY | {"if-match": '"1"'}
    answers = await answers_at_once(
        db, holder, *(client.patch(where, json={"phone": "1"}, headers=headers) for _ in range(3))
    )
    await holder.close()
    assert {(a.status_code, a.headers.get("etag")) for a in answers} == {(200, '"2"')}
    assert len({a.text for a in answers}) == 1
    assert len(await outbox(db)) == 2
    assert str(await db.pool.fetchval(WHOSE)) == made.json()["id"]


async def test_a_registration_that_is_repeated_meanwhile_gets_the_first_answer(
    client: httpx.AsyncClient, db: Database, dsn: str
) -> None:
    """Not 409, although the second finds the reference that the first has made."""
    holder = await connect(dsn)
    await holder.execute(
        "begin; insert into reference values ('shop', '77', '00000000-0000-0000-0000-000000000000')"
    )
    form = {"references": [{"system": "shop", "number": "77"}]}
    answers = await answers_at_once(
        db, holder, *(client.post("/contacts", json=form, headers=KEY) for _ in range(3))
    )
    await holder.close()
    assert [a.status_code for a in answers] == [201, 201, 201]
    assert len({(a.text, a.headers["location"], a.headers["etag"]) for a in answers}) == 1
    assert len(await outbox(db)) == 1
    assert str(await db.pool.fetchval(WHOSE)) == answers[0].json()["id"]
