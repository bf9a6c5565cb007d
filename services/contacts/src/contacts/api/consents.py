"""`/v1/contacts/{id}/consents`: permissions per purpose and channel."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict

from contacts.api.contacts import Text, not_found
from contacts.domain.consent import Channel, Decision, Purpose
from contacts.handlers import contacts as handlers
from contacts.store import consent as store
from contacts.store import contact as contact_store
from rapport import telemetry
from rapport.answers import Answer, IdempotencyKey, answer_once
from rapport.messaging.delivery import Command
from rapport.messaging.transaction import Tx

if TYPE_CHECKING:
    from rapport.service import Service

router = APIRouter(prefix="/contacts/{contact_id}/consents", tags=["consents"])


class ConsentForm(BaseModel):
    """A decision; `wording_version` is the text that the person saw, `recipient` who may write."""

    model_config = ConfigDict(extra="forbid")
    purpose: Purpose
    channel: Channel
    granted: bool
    wording_version: Text
    recipient: Text


class ConsentModel(ConsentForm):
    """A recorded decision; `current` when none of the same purpose and channel is newer."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)
    event_id: UUID
    decided_at: datetime
    recorded_at: datetime
    current: bool


class ConsentList(BaseModel):
    """Every decision, the newest first. No record means not granted."""

    items: list[ConsentModel]


@router.get("")
async def list_consents(request: Request, contact_id: UUID) -> ConsentList:
    """List all decisions of a contact."""
    service: Service = request.app.state.service
    async with service.database.read() as tx:
        contact = await contact_store.find_contact(tx, contact_id)
        if contact is None:
            raise not_found()
        rows = await store.list_consents(tx, contact.id)
    return ConsentList(items=[ConsentModel.model_validate(row) for row in rows])


@router.post("", status_code=201, response_model=ConsentModel)
async def post_consent(
    request: Request, contact_id: UUID, form: ConsentForm, idempotency_key: IdempotencyKey = None
) -> Response:
    """Record a decision."""
    command = Command.drawn(contact_id, telemetry.current_traceparent())

    async def write(tx: Tx) -> Answer:
        contact = await handlers.find_locked(tx, contact_id)
        if contact is None:
            raise not_found()
        decision = Decision(decided_at=tx.now, **form.model_dump())
        event_id = await handlers.change_consent(tx, command, contact, decision)
        recorded = ConsentModel(
            event_id=event_id,
            decided_at=tx.now,
            recorded_at=tx.now,
            current=True,
            **form.model_dump(),
        )
        return Answer(201, recorded, contact.id)

    return await answer_once(request, idempotency_key, write)
