"""Messages, with every gate's decision."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from notifications.api import cursor as cursors
from notifications.domain.message import internet_message_id
from notifications.store import message
from rapport.problem import Problem
from rapport.service import Service

router = APIRouter(tags=["messages"])


class Message(BaseModel):
    """A decision to write, or not to."""

    id: UUID
    contact_id: UUID
    rule: str
    about_id: UUID
    occasion: str
    channel: str
    category: str
    category_version: int
    message_class: str
    template: str
    template_language: str | None
    template_version: int | None
    state: str
    reason: str | None
    consent_event_id: UUID | None
    cause_id: UUID
    decided_at: datetime
    due_at: datetime
    expires_at: datetime
    handed_over_at: datetime | None
    sent_at: datetime | None


class GateDecision(BaseModel):
    """What one gate said; `stage` tells whether at the decision or at the hand-over."""

    gate: str
    decision: str
    reason: str | None = None
    stage: str = "decision"


class Attempt(BaseModel):
    """One try to hand the message over; `code` is what the mail server answered."""

    number: int
    state: str
    code: int | None
    enhanced_code: str | None
    started_at: datetime
    finished_at: datetime | None


class MessageDetail(Message):
    """A message with why it was sent or not."""

    message_id_header: str
    gates: list[GateDecision]
    attempts: list[Attempt]


class MessagePage(BaseModel):
    """A page of messages, the newest decision first."""

    items: list[Message]
    next_cursor: str | None


@router.get("/messages")
async def list_messages(
    request: Request,
    contact_id: UUID,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> MessagePage:
    """List a contact's messages."""
    service: Service = request.app.state.service
    before = cursors.decode(cursor)
    async with service.database.read() as tx:
        rows = await message.list_messages(tx, contact_id, before, limit + 1)
    items = [Message.model_validate(row) for row in rows[:limit]]
    more = len(rows) > limit
    following = cursors.encode(items[-1].decided_at, items[-1].id) if more else None
    return MessagePage(items=items, next_cursor=following)


@router.get("/messages/{message_id}")
async def read_message(request: Request, message_id: UUID) -> MessageDetail:
    """Tell why a message was sent or not: every gate's decision and every attempt."""
    service: Service = request.app.state.service
    async with service.database.read() as tx:
        row: dict[str, Any] | None = await message.find_message(tx, message_id)
    if row is None:
        raise Problem(404, "No such message", f"There is no message {message_id}.")
    return MessageDetail.model_validate(
        {**row, "message_id_header": internet_message_id(message_id)}
    )
