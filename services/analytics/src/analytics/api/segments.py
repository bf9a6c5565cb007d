"""Segments: rules as versioned data, who is in, and who would be."""

from __future__ import annotations

from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator

from analytics.api.access import RunningService
from analytics.domain.segment import Measure
from analytics.handlers import segments as handlers
from analytics.store import segments as store
from rapport.messaging.transaction import Tx
from rapport.problem import Problem
from rapport.telemetry import current_traceparent

router = APIRouter()
LIMIT = 10**15
Code = Annotated[str, Path(pattern="^[a-z][a-z0-9-]{0,62}$")]
Bound = Annotated[int | None, Field(ge=-LIMIT, le=LIMIT, strict=True)]


class ConditionBody(BaseModel):
    """Bounds of a measure, both included; at least one of them."""

    model_config = ConfigDict(extra="forbid")
    measure: Measure
    at_least: Bound = None
    at_most: Bound = None

    @model_validator(mode="after")
    def _bound(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("at_least or at_most is needed")
        return self


class RuleBody(BaseModel):
    """A contact is a member while all conditions hold."""

    model_config = ConfigDict(extra="forbid")
    all: Annotated[list[ConditionBody], Field(min_length=1, max_length=20)]


@router.get("/segments")
async def list_segments(service: RunningService) -> list[dict[str, Any]]:
    """List segments with the rule in force and their counts."""
    async with service.database.read() as tx:
        return await store.list_summaries(tx)


@router.get("/segments/{code}")
async def get_segment(code: Code, service: RunningService) -> dict[str, Any]:
    """Return a segment with the rule in force and its counts."""
    async with service.database.read() as tx:
        return await _summary(tx, code)


@router.get("/segments/{code}/members")
async def list_members(
    code: Code,
    service: RunningService,
    after: UUID = handlers.LOWEST,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """List members by id; `next` is the `after` of the next page."""
    async with service.database.read() as tx:
        await _summary(tx, code)
        members = await store.list_members(tx, code, after, limit)
    following = members[-1]["contact_id"] if len(members) == limit else None
    return {"members": members, "next": following}


@router.put("/segments/{code}")
async def put_segment(
    code: Code, rule: RuleBody, service: RunningService, *, dry_run: bool = False
) -> dict[str, Any]:
    """Put a rule in force as a new version and let contacts enter and leave; or count them."""
    body = rule.model_dump(exclude_none=True)
    if dry_run:
        async with service.database.read() as tx:
            return await store.preview(tx, code, body)
    database = service.database
    await database.transact(lambda tx: handlers.change_rule(tx, code, body))
    crossed = await handlers.judge_all(database, code, current_traceparent())
    async with database.read() as tx:
        return await _summary(tx, code) | {"crossed": crossed}


async def _summary(tx: Tx, code: str) -> dict[str, Any]:
    for summary in await store.list_summaries(tx, code):
        return summary
    reason = {"field": "code", "reason": "unknown"}
    raise Problem(404, "No such segment", errors=[reason])
