"""Idempotency-Keys on a real Postgres, with transactions that commit and run at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

from rapport import answers, problem
from rapport.answers import Answer, IdempotencyKey, StoredAnswer, answer_once
from rapport.clock import Clock
from rapport.database import Database
from rapport.messaging import retention
from rapport.messaging.transaction import Tx
from rapport.pgtypes import Connection
from rapport.testing.inprocess import until

ADA = UUID(int=1)
STORED = StoredAnswer(b"f", ADA, 201, {"ETag": '"1"'}, "{}")
KEY = "Idempotency-Key"
WAITING = """
select count(*) from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock'
"""
AGE = "update rapport.answer set answered_at = now() - $2::text::interval where key like $1"


class Wish(BaseModel):
    """What to write; 0 is refused."""

    points: int


class Desk:
    """A service with one write, which counts how often it ran and can be made to wait."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.runs = 0
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def post(
        self, request: Request, wish: Wish, idempotency_key: IdempotencyKey = None
    ) -> Response:
        """Answer with the number of the run, and refuse a wish for nothing."""

        async def write(_tx: Tx) -> Answer:
            self.runs += 1
            run = self.runs
            await self.may_end.wait()
            if wish.points == 0:
                raise problem.Problem(409, "Not now")
            return Answer(201, Wish(points=run), ADA, {"ETag": f'"{run}"'})

        return await answer_once(request, idempotency_key, write)


@pytest.fixture
async def desk(dsn: str) -> AsyncIterator[Desk]:
    database = await Database.open(dsn, Clock(simulated=True))
    yield Desk(database)
    await database.close()


@pytest.fixture
async def client(desk: Desk) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    problem.install(app)
    for path in ("/wishes", "/others"):
        app.post(path)(desk.post)
    app.put("/wishes")(desk.post)
    app.state.service = SimpleNamespace(database=desk.database)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://desk") as opened:
        yield opened


@pytest.fixture
def tx(rolled_back: Connection) -> Tx:
    return Tx(rolled_back, None)  # type: ignore[arg-type]  # no statement here asks for the time


async def send(client: httpx.AsyncClient, key: str | None, points: int = 1) -> httpx.Response:
    headers = {} if key is None else {KEY: key}
    return await client.post("/wishes", json={"points": points}, headers=headers)


def complaint(answer: httpx.Response) -> tuple[int, dict[str, Any]]:
    assert answer.headers["content-type"] == "application/problem+json"
    (error,) = answer.json()["errors"]
    return answer.status_code, error


async def test_the_same_request_gets_the_first_answer_with_its_headers(
    client: httpx.AsyncClient, desk: Desk
) -> None:
    first, again = [await send(client, "k") for _ in range(2)]
    assert (first.status_code, first.text) == (201, '{"points":1}')
    assert (first.headers["etag"], first.headers["content-type"]) == ('"1"', "application/json")
    assert (again.status_code, again.text, again.headers) == (201, first.text, first.headers)
    assert desk.runs == 1


async def test_without_a_key_every_request_is_a_new_one(
    client: httpx.AsyncClient, desk: Desk
) -> None:
    assert [(await send(client, None)).json()["points"] for _ in range(2)] == [1, 2]
    assert await desk.database.pool.fetchval("select count(*) from rapport.answer") == 0


async def test_a_repeat_that_runs_at_once_waits_and_gets_the_first_answer(
    client: httpx.AsyncClient, desk: Desk
) -> None:
    """The first transaction is open until the repeats wait for its key."""
    desk.may_end.clear()
    sent = [asyncio.create_task(send(client, "k")) for _ in range(4)]

    async def three_wait() -> bool:
        waiting: int = await desk.database.pool.fetchval(WAITING)
        return waiting == 3

    await until(three_wait, "three wait for the first one's end")
    other = asyncio.create_task(send(client, "another"))
    await until(lambda: asyncio.sleep(0, desk.runs == 2), "another key waits for nobody")
    desk.may_end.set()
    assert {(a.status_code, a.text) for a in await asyncio.gather(*sent)} == {(201, '{"points":1}')}
    assert (await other).text == '{"points":2}'


async def test_a_refused_request_may_be_mended_under_its_key(client: httpx.AsyncClient) -> None:
    assert (await send(client, "k", 0)).status_code == 409
    assert (await send(client, "k", 2)).status_code == 201


@pytest.mark.parametrize(
    ("method", "url", "body"),
    [
        ("PUT", "/wishes", '{"points":1}'),
        ("POST", "/others", '{"points":1}'),
        ("POST", "/wishes?dry_run=true", '{"points":1}'),
        ("POST", "/wishes", '{"points":2}'),
    ],
)
async def test_another_request_under_the_key_is_refused_by_name(
    client: httpx.AsyncClient, desk: Desk, method: str, url: str, body: str
) -> None:
    headers = {KEY: "k", "content-type": "application/json"}
    await client.post("/wishes", content='{"points":1}', headers=headers)
    answer = await client.request(method, url, content=body, headers=headers)
    assert complaint(answer) == (422, {"field": KEY, "reason": "was used for another request"})
    assert desk.runs == 1


@pytest.mark.parametrize("key", [b"", b"k" * 256, b"a b", b"a\tb", b"a\x7f", "ž".encode()])
async def test_what_is_no_key_is_refused_by_name(
    client: httpx.AsyncClient, desk: Desk, key: bytes
) -> None:
    answer = await client.post("/wishes", json={"points": 1}, headers=[(KEY.encode(), key)])
    reason = "wants 1 to 255 visible ASCII characters"
    assert complaint(answer) == (422, {"field": KEY, "reason": reason})
    assert desk.runs == 0


@pytest.mark.parametrize("key", ["!", "~" * 255, '"8e03978e-40d5-43dd-bc93-6894a57f9324"'])
async def test_every_visible_character_may_be_in_a_key(client: httpx.AsyncClient, key: str) -> None:
    assert [(await send(client, key)).json() for _ in range(2)] == [{"points": 1}] * 2


async def test_an_answer_says_whose_data_it_holds(client: httpx.AsyncClient, desk: Desk) -> None:
    await send(client, "k")
    rows = await desk.database.pool.fetch(
        "select key from rapport.answer where contact_id = $1", ADA
    )
    assert [row["key"] for row in rows] == ["k"]


async def test_a_key_has_one_answer(tx: Tx) -> None:
    await answers.add_answer(tx, "k", STORED)
    assert await answers.find_answer(tx, "k") == STORED
    assert await answers.find_answer(tx, "l") is None
    with pytest.raises(asyncpg.UniqueViolationError):
        await answers.add_answer(tx, "k", STORED)


async def test_answers_older_than_a_day_are_pruned_by_the_databases_clock(
    client: httpx.AsyncClient, desk: Desk, dsn: str
) -> None:
    """The leader's run does it; what its simulated clock says of the time does not matter."""
    pool = desk.database.pool
    await pool.execute("insert into rapport.clock values (true, '2199-01-01', '2199-01-01')")
    for key in ("old", "young", "new"):
        await send(client, key)
    await pool.execute(AGE, "old", "24 hours 1 second")
    await pool.execute(AGE, "young", "23 hours 59 minutes")
    await retention.run(dsn, retention_days=14)
    rows = await pool.fetch("select key from rapport.answer order by 1")
    assert [row["key"] for row in rows] == ["new", "young"]
    assert (await send(client, "old")).json() == {"points": 4}


class Counted:
    """A connection that remembers what each statement did."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.tags: list[str] = []

    async def execute(self, sql: str, *args: object) -> str:
        """Run a statement."""
        self.tags.append(await self.connection.execute(sql, *args))
        return self.tags[-1]


async def test_pruning_takes_a_bounded_part_at_a_time_and_waits_for_nobody(dsn: str) -> None:
    """Each part is a transaction of its own; a row that somebody locks is left for the next run."""
    other, connection = [await asyncpg.connect(dsn) for _ in range(2)]
    await connection.execute(
        "insert into rapport.answer select 'k' || n, '', null, 200, '{}', '', now() - '2 days'"
        "::interval from generate_series(1, 8) n"
    )
    await other.execute("begin; select from rapport.answer where key = 'k1' for update")
    counted: Any = Counted(connection)
    async with asyncio.timeout(20):
        assert await answers.prune(counted, at_once=3) == 7
    assert counted.tags == ["DELETE 3", "DELETE 3", "DELETE 1"]
    await other.execute("rollback")
    assert await answers.prune(connection, at_once=3) == 1
    for opened in (other, connection):
        await opened.close()
