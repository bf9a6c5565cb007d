"""Ops endpoints over parked events and rejected records."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from rapport.contracts.registry import INBOUND
from rapport.messaging.cloudevents import from_kafka
from rapport.messaging.inbox import Rejection
from rapport.messaging.parking import decode_headers
from rapport.messaging.redrive import (
    NothingParkedError,
    Redrive,
    RedriveFailedError,
    Redriven,
)
from rapport.problem import Problem

if TYPE_CHECKING:
    import asyncpg

    from rapport.messaging.transaction import Tx
    from rapport.service import Service

router = APIRouter(prefix="/ops")
log = structlog.get_logger()

LIST_PARKED = """
select id, stream, partition, number, event_id, type, contacts, cause_id, reason, error, attempts,
    trace, first_failed_at, parked_at
from rapport.parked_event where id > $1 order by id limit $2
"""
FIND_PARKED = "select * from rapport.parked_event where id = $1"
LIST_REJECTED = """
select id, topic, partition, kafka_offset, reason, field, source, source_id, rejected_at,
    resubmitted_at
from rapport.rejected_record where id > $1 order by id limit $2
"""
FIND_REJECTED = "select * from rapport.rejected_record where id = $1"
RESUBMITTED = """
update rapport.rejected_record set resubmitted_at = clock_timestamp() where id = $1
"""


class Wanted(BaseModel):
    """A contact whose closure is meant."""

    contact_id: UUID
    dry_run: bool = False
    actor: str = Field(default="ops", max_length=100)


class Discarded(BaseModel):
    """A contact whose parked events are given up, and why."""

    contact_id: UUID
    reason: str = Field(min_length=1, max_length=500)
    actor: str = Field(default="ops", max_length=100)


@router.get("/parked")
async def list_parked(request: Request, after: int = 0, limit: int = 100) -> dict[str, Any]:
    """List parked events in arrival order."""
    async with request.app.state.service.database.read() as tx:
        rows = [dict(row) for row in await tx.fetch(LIST_PARKED, after, min(limit, 1000))]
        contacts = await tx.fetchval("select count(*) from rapport.key where parked")
        events = await tx.fetchval("select count(*) from rapport.parked_event")
    return {"events": events, "contacts": contacts, "items": rows}


@router.get("/parked/{parked_id}")
async def show_parked(request: Request, parked_id: int) -> dict[str, Any]:
    """Show one parked event with its headers and raw body."""
    return await _show(request, FIND_PARKED, parked_id, "parked event")


@router.post("/parked/redrive")
async def redrive(request: Request, wanted: Wanted) -> Redriven:
    """Apply a contact's closure of parked events, or show what that would change."""
    service: Service = request.app.state.service
    driver = _driver(service)
    try:
        if wanted.dry_run:
            return await driver.dry_run(wanted.contact_id)
        return await driver.run(wanted.contact_id, wanted.actor)
    except NothingParkedError:
        raise Problem(404, "Nothing parked", f"contact {wanted.contact_id}") from None
    except RedriveFailedError as error:
        raise Problem(409, "Redrive failed", str(error)) from error
    except Exception as error:
        if not wanted.dry_run:
            raise
        raise Problem(409, "Redrive would fail", f"{type(error).__name__}: {error}") from error


@router.post("/parked/discard")
async def discard(request: Request, wanted: Discarded) -> Redriven:
    """Give up a contact's parked events; audited."""
    driver = _driver(request.app.state.service)
    try:
        return await driver.discard(wanted.contact_id, wanted.actor, wanted.reason)
    except NothingParkedError:
        raise Problem(404, "Nothing parked", f"contact {wanted.contact_id}") from None


def _driver(service: Service) -> Redrive:
    definition = service.definition
    return Redrive(service.database, service.consuming.decoders, definition.declared_tables)


@router.get("/rejected")
async def list_rejected(request: Request, after: int = 0, limit: int = 100) -> dict[str, Any]:
    """List rejected records in arrival order."""
    async with request.app.state.service.database.read() as tx:
        rows = [dict(row) for row in await tx.fetch(LIST_REJECTED, after, min(limit, 1000))]
        records = await tx.fetchval("select count(*) from rapport.rejected_record")
    return {"records": records, "items": rows}


@router.get("/rejected/{rejected_id}")
async def show_rejected(request: Request, rejected_id: int) -> dict[str, Any]:
    """Show one rejected record with its headers and raw body."""
    return await _show(request, FIND_REJECTED, rejected_id, "rejected record")


@router.post("/rejected/{rejected_id}/resubmit")
async def resubmit(request: Request, rejected_id: int) -> dict[str, Any]:
    """Offer a rejected external record again, for example after its source was registered."""
    service: Service = request.app.state.service
    if service.definition.accept is None:
        raise Problem(409, "Cannot be resubmitted", "a foreign record of an internal stream")

    async def body(tx: Tx) -> dict[str, Any]:
        row = await _find(tx, FIND_REJECTED, rejected_id, "rejected record")
        if row["topic"] != INBOUND:
            raise Problem(409, "Cannot be resubmitted", "a foreign record of an internal stream")
        event = from_kafka(decode_headers(row["headers"]), row["value"])
        if isinstance(event, Rejection):
            raise _still_rejected(event.reason, event.field)
        outcome = (await service.definition.accept([event], tx))[0]
        if outcome.status == "rejected":
            raise _still_rejected(outcome.reason or "rejected", outcome.field)
        await tx.execute(RESUBMITTED, rejected_id)
        return {"status": outcome.status, "event_id": outcome.event_id}

    return await service.database.transact(body)


def _still_rejected(reason: str, field: str | None) -> Problem:
    errors = [{"field": field or "data", "reason": reason}]
    return Problem(422, "Still rejected", reason, errors=errors)


async def _show(request: Request, sql: str, row_id: int, what: str) -> dict[str, Any]:
    async with request.app.state.service.database.read() as tx:
        row = await _find(tx, sql, row_id, what)
    shown = dict(row)
    headers = decode_headers(shown["headers"])
    shown["headers"] = [[name, raw.decode("utf-8", "backslashreplace")] for name, raw in headers]
    for column in ("value", "key"):
        if isinstance(shown.get(column), bytes):
            shown[f"{column}_base64"] = base64.b64encode(shown[column]).decode()
            shown[column] = shown[column][:10_000].decode("utf-8", "backslashreplace")
    return shown


async def _find(tx: Tx, sql: str, row_id: int, what: str) -> asyncpg.Record:
    row = await tx.fetchrow(sql, row_id)
    if row is None:
        raise Problem(404, "Not found", f"no {what} {row_id}")
    return row
