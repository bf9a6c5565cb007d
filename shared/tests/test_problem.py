"""Every error of an API is a problem as RFC 9457 has it."""

from __future__ import annotations

from typing import Annotated, Any

import asyncpg
import pytest
from fastapi import FastAPI, HTTPException, Query
from httpx import ASGITransport, AsyncClient, Response
from pydantic import BaseModel, Field

from rapport import problem
from rapport.problem import Problem

SECRET = "zebulon@quickwater.example"  # noqa: S105  planted personal data


class Line(BaseModel):
    """A line of an order."""

    net_minor: Annotated[int, Field(ge=0, strict=True)]


class Order(BaseModel):
    """A body with something nested."""

    email: Annotated[str, Field(pattern="^[^@]+$")]
    lines: list[Line]


ERRORS: dict[str, Exception] = {
    "conflict": Problem(
        409,
        "Order conflict",
        "The order is known with other lines.",
        "https://rapport.example/problems/order-conflict",
        [{"field": "order", "reason": "order_conflict"}],
    ),
    "bare": Problem(404, "No such contact"),
    "http": HTTPException(405, headers={"Allow": "GET"}),
    "detail": HTTPException(403, "Not from here"),
    "unknown": KeyError(SECRET),
    "programming": asyncpg.UndefinedColumnError(f"column {SECRET} does not exist"),
    "unique": asyncpg.UniqueViolationError(f"Key (email)=({SECRET}) already exists."),
    "usage": asyncpg.DataError(f"invalid input {SECRET}"),
    "closed": asyncpg.InterfaceError("connection is closed"),
    "gone": asyncpg.ConnectionDoesNotExistError("connection was closed"),
    "starting": asyncpg.CannotConnectNowError("the database system is starting up"),
    "deadlock": asyncpg.DeadlockDetectedError("deadlock detected"),
    "full": asyncpg.TooManyConnectionsError("sorry, too many clients already"),
    "refused": ConnectionRefusedError(111, "Connection refused"),
    "slow": TimeoutError(),
}


def _app() -> FastAPI:
    app = FastAPI()
    problem.install(app)

    @app.get("/raise/{name}")
    async def fail(name: str) -> None:
        raise ERRORS[name]

    @app.get("/wrapped")
    async def wrapped() -> None:
        try:
            raise ERRORS["gone"]
        except asyncpg.PostgresError as error:
            msg = "current transaction is aborted"
            raise asyncpg.InFailedSQLTransactionError(msg) from error

    @app.post("/orders")
    async def order(body: Order, limit: Annotated[int, Query(le=100)] = 1) -> dict[str, Any]:
        return {"lines": len(body.lines), "limit": limit}

    return app


async def _call(method: str, path: str, **options: Any) -> Response:  # noqa: ANN401  httpx's own
    transport = ASGITransport(_app(), raise_app_exceptions=False)
    async with AsyncClient(transport=transport, base_url="http://service") as client:
        answer = await client.request(method, path, **options)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == answer.status_code
    assert SECRET not in answer.text
    return answer


async def test_a_problem_is_answered_as_raised() -> None:
    answer = await _call("GET", "/raise/conflict")
    assert answer.status_code == 409
    assert answer.json() == {
        "type": "https://rapport.example/problems/order-conflict",
        "title": "Order conflict",
        "status": 409,
        "detail": "The order is known with other lines.",
        "errors": [{"field": "order", "reason": "order_conflict"}],
    }


async def test_what_a_problem_does_not_say_is_left_out() -> None:
    answer = await _call("GET", "/raise/bare")
    assert answer.json() == {"type": "about:blank", "title": "No such contact", "status": 404}


async def test_an_invalid_request_names_its_fields() -> None:
    body = {"email": SECRET, "lines": [{"net_minor": 1}, {"net_minor": -1}, {}]}
    answer = await _call("POST", "/orders?limit=1000", json=body)
    assert answer.status_code == 422
    errors = {error["field"]: error["reason"] for error in answer.json()["errors"]}
    assert errors.keys() == {"email", "lines[1].net_minor", "lines[2].net_minor", "limit"}
    assert errors["lines[2].net_minor"] == "Field required"


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b""])
async def test_a_body_that_cannot_be_read(content: bytes) -> None:
    headers = {"content-type": "application/json"}
    answer = await _call("POST", "/orders", content=content, headers=headers)
    assert answer.status_code in (400, 422)


async def test_errors_of_the_framework() -> None:
    assert (await _call("GET", "/nowhere")).json() == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
    }
    assert (await _call("GET", "/raise/http")).headers["allow"] == "GET"
    assert (await _call("GET", "/raise/detail")).json()["detail"] == "Not from here"


@pytest.mark.parametrize(
    "path",
    [
        *("/raise/closed", "/raise/gone", "/raise/starting", "/raise/deadlock", "/raise/full"),
        *("/raise/refused", "/raise/slow", "/wrapped"),
    ],
)
async def test_a_database_that_is_away_is_worth_another_try(path: str) -> None:
    answer = await _call("GET", path)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("name", ["unknown", "programming", "unique", "usage"])
async def test_anything_else_tells_no_internals(name: str) -> None:
    answer = await _call("GET", f"/raise/{name}")
    assert answer.json() == {
        "type": "about:blank",
        "title": "Internal server error",
        "status": 500,
    }
