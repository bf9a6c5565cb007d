"""Errors of the HTTP API as problem details (RFC 9457), without internals or anybody's data."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import asyncpg
import structlog
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from rapport import telemetry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from fastapi import FastAPI, Request, Response

log = structlog.get_logger()

CONTENT_TYPE = "application/problem+json"
RETRY_SECONDS = 2
DATABASE_AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)
TRANSIENT_STATES = ("08", "40", "53", "55", "57", "58", "25006", "25P03", "25P04", "XX")
"""SQLSTATEs, or their classes, after which the same request may succeed."""


class Problem(Exception):  # noqa: N818  the standard's word
    """Answer a request with problem details. `errors` name fields: `{"field", "reason"}`."""

    def __init__(
        self,
        status: int,
        title: str,
        detail: str | None = None,
        type: str = "about:blank",  # noqa: A002  the standard's member
        errors: Sequence[Mapping[str, str]] = (),
    ) -> None:
        """Take the members of the problem; `type` is a URI of its kind."""
        super().__init__(f"{status} {title}")
        self.status = status
        self.title = title
        self.detail = detail
        self.type = type
        self.errors = errors
        self.headers: dict[str, str] = {}

    def body(self) -> dict[str, Any]:
        """Return the members of the problem; absent ones are left out."""
        members: dict[str, Any] = {"type": self.type, "title": self.title, "status": self.status}
        if self.detail is not None:
            members["detail"] = self.detail
        if self.errors:
            members["errors"] = [dict(error) for error in self.errors]
        return members

    def response(self) -> Response:
        """Return the HTTP response."""
        return JSONResponse(
            self.body(), self.status, headers=self.headers or None, media_type=CONTENT_TYPE
        )


def install(app: FastAPI) -> None:
    """Register the handlers: problems, invalid requests, HTTP errors, a database that is away."""
    app.add_exception_handler(Problem, _answer_problem)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    for kind in DATABASE_AWAY:
        app.add_exception_handler(kind, _answer_database)
    app.add_exception_handler(Exception, _answer_unknown)


async def _answer_problem(_request: Request, error: Exception) -> Response:
    if not isinstance(error, Problem):
        raise error
    return error.response()


async def _answer_invalid(_request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    errors = error.errors()
    malformed = any(e["type"] == "json_invalid" for e in errors)
    status = HTTPStatus.BAD_REQUEST if malformed else HTTPStatus.UNPROCESSABLE_ENTITY
    title = "The body is not JSON" if malformed else "The request is not valid"
    return Problem(status.value, title, errors=field_errors(errors)).response()


def field_errors(errors: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return pydantic's errors as `{"field", "reason"}`, without the values that were given."""
    return [{"field": _field(e.get("loc", ())), "reason": str(e["msg"])} for e in errors]


def _field(location: Sequence[int | str]) -> str:
    """Name a field as `lines[0].net_minor`; where it was (body, query) counts only if alone."""
    parts = location[1:] if location and location[0] in ("body", "query", "path") else location
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return name.removeprefix(".") or "".join(map(str, location))


async def _answer_http(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    title = HTTPStatus(error.status_code).phrase
    detail = str(error.detail) if error.detail and error.detail != title else None
    problem = Problem(error.status_code, title, detail)
    problem.headers = dict(error.headers or {})
    return problem.response()


async def _answer_database(request: Request, error: Exception) -> Response:
    if not is_transient(error):
        log.error("request_failed", error_type=type(error).__qualname__, exc_info=error)
        return await _answer_unknown(request, error)
    log.warning("database_unavailable", error_type=type(error).__qualname__)
    problem = Problem(503, "Temporarily unavailable", "Try the same request again.")
    problem.headers = {"Retry-After": str(RETRY_SECONDS)}
    return problem.response()


async def _answer_unknown(_request: Request, _error: Exception) -> Response:
    """Say nothing but the trace; the server logs the exception."""
    problem = Problem(500, "Internal server error")
    traceparent = telemetry.current_traceparent()
    if traceparent:
        problem.detail = f"Trace {traceparent.split('-')[1]}"
    return problem.response()


def is_transient(error: BaseException) -> bool:
    """Tell whether an error means that the database is away or busy, not that the request is bad.

    A lost connection anywhere on the chain counts, whatever was raised on top.
    """
    chain = list(_chain(error))
    if any(_is_connection_lost(link) for link in chain):
        return True
    states = [state for link in chain if (state := getattr(link, "sqlstate", None))]
    return bool(states) and states[0].startswith(TRANSIENT_STATES)


def _is_connection_lost(error: BaseException) -> bool:
    if isinstance(error, asyncpg.InterfaceError):
        return not isinstance(error, asyncpg.DataError | ValueError)
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
        return False
    return isinstance(error, OSError | asyncio.TimeoutError | asyncpg.PostgresConnectionError)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
