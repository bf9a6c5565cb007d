"""Ops endpoints: liveness, readiness, metrics, journeys, reconciliation, parked and rejected."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import AwareDatetime, BaseModel

from rapport.contracts.registry import INBOUND
from rapport.messaging import journey, position, reconcile, standing
from rapport.messaging.transaction import Tx
from rapport.metrics_export import CONTENT_TYPE, prometheus_text
from rapport.migrate import is_current
from rapport.ops_parked import router as parked_router
from rapport.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rapport.service import Service

router = APIRouter()
router.include_router(parked_router)

DEAD_SECONDS = 45.0
START_CLOCK = """
insert into rapport.clock (now, fire_until) values ($1, $1) on conflict do nothing
"""
SET_CLOCK = """
update rapport.clock set now = greatest(now, $1), fire_until = greatest(fire_until, $2)
returning now, fire_until
"""


def service_of(request: Request) -> Service:
    """Return the running service behind a request."""
    service: Service = request.app.state.service
    return service


@router.get("/livez")
async def live(request: Request) -> dict[str, Any]:
    """Tell whether the loops go round; never asks Postgres or Kafka."""
    idle = service_of(request).consuming.idle_seconds()
    if idle > DEAD_SECONDS:
        raise Problem(503, "Not alive", f"a runner has not moved for {idle:.0f} s")
    return {"status": "alive", "idle_seconds": round(idle, 3)}


@router.get("/readyz")
async def ready(request: Request) -> dict[str, Any]:
    """Tell whether the pool answers, partitions are assigned and the schema is current."""
    service = service_of(request)
    missing = [] if service.consuming.is_ready() else ["assignment"]
    try:
        async with service.database.pool.acquire(timeout=2) as connection:
            if not await is_current(connection, service.definition.name):
                missing.append("schema")
    except Exception:  # noqa: BLE001  whatever it is, there is no database
        missing.append("database")
    if missing:
        raise Problem(503, "Not ready", "waiting for " + ", ".join(missing))
    return {"status": "ready", "leader": service.leading.is_leader}


@router.get("/metrics")
async def metrics() -> Response:
    """Prometheus text."""
    return Response(prometheus_text(), media_type=CONTENT_TYPE)


@router.get("/ops/settle")
async def settle(request: Request) -> Response:
    """Tell what is open in this service, for whoever waits until nothing is."""
    service = service_of(request)
    definition, database = service.definition, service.database
    async with database.pool.acquire() as connection:
        found = await standing.read(connection, database.clock, service.settings.partitions)
        tx = Tx(connection, found.now)
        pending = dict(await definition.pending(tx)) if definition.pending else {}
        due = [found.next_due, await definition.next_due(tx) if definition.next_due else None]
    answer: dict[str, Any] = {
        "service": definition.name,
        "open_outbox": int(found.is_open),
        "unsent": _count_unsent(service, found.produced),
        "fork": service.leading.relay.fork,
        "produced": dict(enumerate(found.produced)),
        "epoch": found.epoch,
        "positions": found.positions,
        "stopped": found.stopped,
        "timers_due": found.timers_due,
        "pending": pending,
        "next_due": min((d for d in due if d is not None), default=None),
        "clock": {"now": found.now, "fire_until": found.fire_until},
    }
    if service.consuming.inbound is not None:
        answer["inbound"] = await _inbound(service, found.offsets)
    return Response(msgspec.json.encode(answer), media_type="application/json")


def _count_unsent(service: Service, produced: Sequence[int]) -> int:
    if not service.leading.is_leader:
        return 0
    acknowledged = service.leading.relay.acknowledged
    return sum(max(0, n - a) for n, a in zip(produced, acknowledged, strict=False))


async def _inbound(service: Service, offsets: dict[int, int]) -> dict[str, dict[str, int]]:
    runner = service.consuming.inbound
    if runner is None or runner.consumer is None:
        raise Problem(503, "Not ready", "the inbound topic is not assigned yet")
    ends = await service.consuming.ends.read(INBOUND, range(service.settings.partitions))
    return {
        str(partition): {"position": offsets.get(partition, 0), "end": end}
        for partition, end in ends.items()
    }


class ClockMove(BaseModel):
    """A later `now`, a later `fire_until`, or both."""

    now: AwareDatetime | None = None
    fire_until: AwareDatetime | None = None


@router.get("/ops/clock")
async def read_clock(request: Request) -> dict[str, datetime]:
    """Return what time it is, and until when timers fire."""
    database = service_of(request).database
    async with database.read() as tx:
        return {"now": tx.now, "fire_until": await database.clock.fire_until(tx.connection)}


@router.post("/ops/clock")
async def move_clock(request: Request, move: ClockMove) -> dict[str, datetime]:
    """Move the simulated clock, forward only; refused where the clock is real."""
    service = service_of(request)
    if service.settings.clock != "simulated":
        raise Problem(409, "The clock is real", "RAPPORT_CLOCK=simulated is needed to move it")
    async with service.database.pool.acquire() as connection:
        if move.now is not None:
            await connection.execute(START_CLOCK, move.now)
        row = await connection.fetchrow(SET_CLOCK, move.now, move.fire_until)
    if row is None:
        raise Problem(409, "The clock was not started", "`now` has to be given first")
    service.leading.clock_moved()
    return dict(row)


@router.get("/ops/events/{event_id}")
async def tell_event(request: Request, event_id: UUID) -> dict[str, Any]:
    """Tell an event's journey as this service's tables have it."""
    service = service_of(request)
    async with service.database.read() as tx:
        definition = service.definition
        return await journey.tell(tx.connection, definition.name, event_id, definition.later)


@router.get("/ops/applied")
async def tell_applied(
    request: Request, stream: str, partition: int, number: int
) -> list[dict[str, Any]]:
    """Tell this service's transactions over a number of an upstream stream."""
    async with service_of(request).database.read() as tx:
        return await journey.find_applied(tx.connection, stream, partition, number)


@router.get("/ops/reconciliation")
async def reconciliation(request: Request, *, full: bool = False) -> dict[str, Any]:
    """Return this service's side of the reconciliation; `fork` says why its stream is stopped."""
    service = service_of(request)
    async with service.database.read() as tx:
        found = await reconcile.reconcile(
            tx.connection, service.definition.name, service.settings.partitions, full=full
        )
    return {**found, "fork": service.leading.relay.fork}


@router.get("/ops/positions")
async def list_positions(request: Request) -> list[dict[str, Any]]:
    """Return the positions, stopped ones with their error."""
    async with service_of(request).database.read() as tx:
        return await reconcile.read_positions(tx.connection)


class Resume(BaseModel):
    """Which stopped partition to try at once; all of the stream when none is named."""

    stream: str
    partition: int | None = None


@router.post("/ops/positions/resume")
async def resume(request: Request, which: Resume) -> dict[str, Any]:
    """Try a stopped partition's next event at once."""
    async with service_of(request).database.pool.acquire() as connection:
        rows = await connection.fetch(position.RESUME, which.stream, which.partition)
    return {"stream": which.stream, "resumed": [row["partition"] for row in rows]}
