"""`/v1/sources`: who may send external events, and whose customer numbers they use."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

from contacts.api.contacts import Text
from contacts.api.paging import Cursor, Limit, Page, page_of, text_after
from contacts.store import source as store
from rapport.answers import Answer, IdempotencyKey, answer_once
from rapport.messaging.inbox import MAX_ATTRIBUTE_LENGTH
from rapport.messaging.transaction import Tx
from rapport.problem import Problem

if TYPE_CHECKING:
    from rapport.service import Service

router = APIRouter(prefix="/sources", tags=["sources"])


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("holds a NUL character")
    return text


SourceName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_ATTRIBUTE_LENGTH),
    AfterValidator(_storable),
]


class SourceForm(BaseModel):
    """A CloudEvents `source`, and its reference system: its own name unless it shares one."""

    model_config = ConfigDict(extra="forbid")
    source: SourceName
    reference_system: Text | None = None


class SourceModel(BaseModel):
    """A registered source."""

    model_config = ConfigDict(from_attributes=True)
    source: str
    reference_system: str
    registered_at: datetime


@router.post("", status_code=201, response_model=SourceModel)
async def post_source(
    request: Request, form: SourceForm, idempotency_key: IdempotencyKey = None
) -> Response:
    """Register a source: 201, or 200 when it was; 409 when it has another reference system."""
    system = form.reference_system or form.source

    async def write(tx: Tx) -> Answer:
        added = await store.add_source(tx, form.source, system)
        known = await store.find_source(tx, form.source)
        if known is None or known.reference_system != system:
            errors = [{"field": "reference_system", "reason": "the source has another one"}]
            raise Problem(409, "The source is registered", errors=errors)
        return Answer(201 if added else 200, SourceModel.model_validate(known), None)

    return await answer_once(request, idempotency_key, write)


@router.get("")
async def list_sources(
    request: Request, limit: Limit = 50, cursor: Cursor = None
) -> Page[SourceModel]:
    """List sources by name."""
    service: Service = request.app.state.service
    async with service.database.read() as tx:
        rows = await store.list_sources(tx, text_after(cursor), limit + 1)
    models = [SourceModel.model_validate(row) for row in rows]
    return Page[SourceModel].model_validate(page_of(models, limit, "source"))
