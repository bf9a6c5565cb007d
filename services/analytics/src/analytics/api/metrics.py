"""`GET /v1/metrics/{name}`: every answer says how it is defined and how fresh it is."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from analytics.api.access import RunningService, ServiceSettings
from analytics.api.figures import METRICS, Period
from analytics.api.freshness import Freshness, freshness_of
from analytics.models import runner
from analytics.store import metrics, parameters
from rapport.problem import Problem

router = APIRouter()
MAX_WEEKS = 520


class Asked(BaseModel):
    """Days in the programme's zone, both included; without `as_of` it is today."""

    first: date | None = Field(default=None, alias="from")
    last: date | None = Field(default=None, alias="to")
    as_of: date | None = None
    contact_id: UUID | None = None
    segment: str | None = None
    weeks: float = Field(default=39, gt=0, le=MAX_WEEKS)


class Answer(BaseModel):
    """A metric's figures; `unknown` says why there are none, which is never the same as 0."""

    name: str
    definition: str
    currency: str
    zone: str
    first: date | None = Field(serialization_alias="from")
    last: date = Field(serialization_alias="to")
    as_of: date
    freshness: Freshness
    values: Any
    unknown: str | None = None


@router.get("/metrics")
async def list_metrics() -> dict[str, str]:
    """Name every metric with its definition."""
    return {name: metric.definition for name, metric in METRICS.items()}


@router.get("/metrics/{name}")
async def get_metric(
    name: str, asked: Annotated[Asked, Query()], service: RunningService, settings: ServiceSettings
) -> Answer:
    """Compute a metric for a period, as of a day."""
    metric = METRICS.get(name)
    if metric is None:
        known = ", ".join(METRICS)
        reason = {"field": "name", "reason": f"one of {known}"}
        raise Problem(404, "No such metric", f"Known are: {known}", errors=[reason])
    async with service.database.read() as tx:
        reporting = await parameters.find_reporting(tx)
        today = await metrics.find_today(tx, reporting.zone)
        period = _period(asked, today, reporting.zone)
        values = await metric.compute(tx, period)
        fresh = await freshness_of(tx)
    if name == "bgnbd":
        values = await _fit(values, settings.fit_seconds)
    unknown = values.pop("unknown", None) if isinstance(values, dict) else None
    return Answer(
        name=name,
        definition=metric.definition,
        currency=reporting.currency,
        zone=reporting.zone,
        first=period.first,
        last=period.last,
        as_of=period.as_of,
        freshness=fresh,
        values=None if unknown and not values else values,
        unknown=unknown,
    )


def _period(asked: Asked, today: date, zone: str) -> Period:
    as_of = asked.as_of or today
    last = asked.last or as_of
    if last > as_of:
        raise _refusal("to", "not after as_of, which is today unless given")
    if asked.first and asked.first > last:
        raise _refusal("from", "not after to")
    return Period(asked.first, last, as_of, zone, asked.contact_id, asked.segment, asked.weeks)


def _refusal(field: str, reason: str) -> Problem:
    return Problem(
        422, "The request is not valid", errors=[{"field": field, "reason": f"must be {reason}"}]
    )


async def _fit(question: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Fit outside the transaction: no connection waits for the subprocess."""
    if "unknown" in question:
        return question
    try:
        return await runner.fit(question, seconds)
    except runner.ModelFailedError as error:
        raise Problem(503, "The model was not fitted", str(error)) from error
