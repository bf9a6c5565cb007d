"""Totals, the rebuild, and exchange rates."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from analytics.api.access import RunningService
from analytics.handlers.rebuild import rebuild
from analytics.handlers.segments import judge_all
from analytics.store import metrics, parameters
from analytics.store.rebuild import Differences
from rapport.problem import Problem
from rapport.telemetry import current_traceparent

router = APIRouter()


@router.get("/totals")
async def get_totals(service: RunningService) -> dict[str, Any]:
    """Count and sum the facts themselves; `live_revenue_minor` alone is a live figure."""
    async with service.database.read() as tx:
        facts = await metrics.count_facts(tx)
        money = await metrics.find_money_totals(tx)
        segments = await metrics.find_segment_totals(tx)
    net = money["revenue_gross_minor"] - money["refunded_minor"]
    return {"facts": facts, "revenue_minor": net, **money, **segments}


class Rebuilt(BaseModel):
    """Differences between live figures and those that the facts give: their number, the first."""

    dry_run: bool
    total: int
    differences: list[dict[str, Any]]


@router.post("/rebuild")
async def post_rebuild(service: RunningService, *, dry_run: bool = False) -> Rebuilt:
    """Build the figures from the facts and compare; without `dry_run` put them in place."""
    database = service.database
    if dry_run:
        async with database.read() as tx:
            return _rebuilt(await rebuild(tx), dry_run=True)
    found = await database.transact(lambda tx: rebuild(tx, dry_run=False))
    async with database.read() as tx:
        codes = [segment.code for segment in await parameters.list_segments(tx)]
    for code in codes:
        await judge_all(database, code, current_traceparent())
    return _rebuilt(found, dry_run=False)


def _rebuilt(found: Differences, *, dry_run: bool) -> Rebuilt:
    first = [
        {"figure": d.figure, "key": d.key, "live": d.live, "rebuilt": d.rebuilt}
        for d in found.first
    ]
    return Rebuilt(dry_run=dry_run, total=found.total, differences=first)


class RateBody(BaseModel):
    """Minor units of the reporting currency for one minor unit of the other, from a day on."""

    model_config = ConfigDict(extra="forbid")
    valid_from: date
    rate: Annotated[Decimal, Field(gt=0, lt=10**9, max_digits=24, decimal_places=15)]


@router.post("/rates/{currency}", status_code=201)
async def post_rate(
    currency: Annotated[str, Path(pattern="^[A-Z]{3}$")], body: RateBody, service: RunningService
) -> Response:
    """Add an exchange rate; one that stands is never changed: figures were built on it."""
    added = await service.database.transact(
        lambda tx: parameters.add_rate(tx, currency, body.valid_from, body.rate)
    )
    if not added:
        reason = {"field": "valid_from", "reason": "a rate of that day stands already"}
        raise Problem(409, "The rate stands already", errors=[reason])
    return Response(status_code=201)
