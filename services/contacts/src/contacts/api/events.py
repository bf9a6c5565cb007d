"""`POST /v1/events`: external events by the HTTP binding of CloudEvents 1.0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel

from rapport import telemetry
from rapport.messaging.cloudevents import from_batch, from_http, from_structured, mode_of
from rapport.messaging.inbox import DATA_TOO_LARGE, ID_REUSED, External, Outcome, Rejection
from rapport.messaging.transaction import Tx
from rapport.problem import Problem

if TYPE_CHECKING:
    from rapport.service import Service

router = APIRouter(prefix="/events", tags=["events"])

MAX_BODY_BYTES = 4 * 1024 * 1024
MAX_EVENTS = 1000
PER_TRANSACTION = 500

ORDER_CONFLICT = "order_conflict"
STATUSES = {DATA_TOO_LARGE: 413, ID_REUSED: 409, ORDER_CONFLICT: 409}
INVALID = 422

Parsed = External | Rejection


class ResultModel(BaseModel):
    """What became of one event; `event_id` is our own event that it became, if any."""

    status: Literal["accepted", "duplicate", "rejected"]
    event_id: UUID | None = None
    reason: str | None = None
    field: str | None = None


class ResultList(BaseModel):
    """One result per event, in the order of the request."""

    results: list[ResultModel]


@router.post("", status_code=202, response_model_exclude_none=True)
async def post_events(request: Request) -> ResultList:
    """Accept one event (binary or structured mode) or a batch of at most 1,000.

    A single event that is refused is answered with a problem; in a batch, each has its result.
    """
    body = await _read_body(request)
    mode = mode_of(request.headers.get("content-type"))
    trace = telemetry.current_traceparent() or request.headers.get("traceparent")
    if mode == "batch":
        return ResultList(results=await _accept(request, _batch(body, trace)))
    if mode == "structured":
        event = from_structured(body, trace)
    else:
        event = from_http(request.headers.raw, body, trace)
    result = (await _accept(request, [event]))[0]
    if result.status == "rejected":
        raise _problem(result.reason or "", result.field)
    return ResultList(results=[result])


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            errors = [{"field": "data", "reason": f"more than {MAX_BODY_BYTES} bytes"}]
            raise Problem(413, "The request is too large", errors=errors)
    return bytes(body)


def _batch(body: bytes, trace: str | None) -> list[Parsed]:
    events = from_batch(body, trace)
    if isinstance(events, Rejection):
        raise _problem(events.reason, events.field, status=400)
    if len(events) > MAX_EVENTS:
        errors = [{"field": "data", "reason": f"more than {MAX_EVENTS} events"}]
        raise Problem(413, "The batch is too long", errors=errors)
    return events


def _problem(reason: str, field: str | None, status: int | None = None) -> Problem:
    errors = [{"field": field or "data", "reason": reason}]
    return Problem(
        status or STATUSES.get(reason, INVALID), "The event is refused", reason, errors=errors
    )


async def _accept(request: Request, parsed: Sequence[Parsed]) -> list[ResultModel]:
    """Accept what could be read, a part per transaction, and put the results in order."""
    service: Service = request.app.state.service
    events = [event for event in parsed if isinstance(event, External)]
    outcomes: list[Outcome] = []
    for start in range(0, len(events), PER_TRANSACTION):
        part = events[start : start + PER_TRANSACTION]

        async def body(tx: Tx, part: Sequence[External] = part) -> list[Outcome]:
            accepted: list[Outcome] = await service.definition.accept(part, tx)
            return accepted

        outcomes += await service.database.transact(body)
    following = iter(outcomes)
    return [
        _result(Outcome.rejected(event) if isinstance(event, Rejection) else next(following))
        for event in parsed
    ]


def _result(outcome: Outcome) -> ResultModel:
    return ResultModel(
        status=outcome.status,
        event_id=outcome.event_id,
        reason=outcome.reason,
        field=outcome.field,
    )
