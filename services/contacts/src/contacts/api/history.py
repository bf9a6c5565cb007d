"""`/v1/contacts/{id}/timeline` and `/purchases`: what happened, the newest first."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel

from contacts.api.contacts import not_found
from contacts.api.paging import Cursor, Limit, Page, page_of, time_before
from contacts.store import contact as contact_store
from contacts.store import purchase as purchase_store
from contacts.store import timeline as timeline_store
from rapport.messaging.transaction import Tx

if TYPE_CHECKING:
    from rapport.service import Service

router = APIRouter(prefix="/contacts/{contact_id}", tags=["history"])


class FactModel(BaseModel):
    """One event of any service; `details` is its body without personal data."""

    event_id: UUID
    occurred_at: datetime
    type: str
    details: dict[str, Any]


class LineModel(BaseModel):
    """A line of a purchase, net without tax, and what was given back of it."""

    line: str
    sku: str
    quantity: int
    net_minor: int
    tax_minor: int
    category: str | None
    excluded: bool
    refunded_minor: int


class PurchaseModel(BaseModel):
    """A purchase."""

    id: UUID
    source: str
    order: str
    occurred_at: datetime
    currency: str
    shipping_minor: int
    shop: str | None
    lines: list[LineModel]


@router.get("/timeline")
async def list_timeline(
    request: Request, contact_id: UUID, limit: Limit = 50, cursor: Cursor = None
) -> Page[FactModel]:
    """List what happened to a contact in all services."""
    service: Service = request.app.state.service
    before = time_before(cursor)
    async with service.database.read() as tx:
        canonical = await _canonical(tx, contact_id)
        rows = await timeline_store.list_entries(tx, canonical, before, limit + 1)
    return Page[FactModel].model_validate(page_of(rows, limit, "occurred_at", "event_id"))


@router.get("/purchases")
async def list_purchases(
    request: Request, contact_id: UUID, limit: Limit = 50, cursor: Cursor = None
) -> Page[PurchaseModel]:
    """List a contact's purchases."""
    service: Service = request.app.state.service
    before = time_before(cursor)
    async with service.database.read() as tx:
        canonical = await _canonical(tx, contact_id)
        rows = await purchase_store.list_purchases(tx, canonical, before, limit + 1)
    return Page[PurchaseModel].model_validate(page_of(rows, limit, "occurred_at", "id"))


async def _canonical(tx: Tx, contact_id: UUID) -> UUID:
    contact = await contact_store.find_contact(tx, contact_id)
    if contact is None:
        raise not_found()
    return contact.id
