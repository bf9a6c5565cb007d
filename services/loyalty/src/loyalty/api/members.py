"""A member's balance and statement."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from loyalty import store
from loyalty.domain.redemption import balance_now
from rapport.messaging.transaction import Tx
from rapport.problem import Problem
from rapport.service import Service

router = APIRouter(prefix="/members", tags=["members"])

Limit = Annotated[int, Query(ge=1, le=500)]
Cursor = Annotated[str | None, Query(pattern="^[0-9]{1,18}$", description="`next` of a page")]


class Balance(BaseModel):
    """Points by state; pending and held ones cannot be spent, `debt` is owed and repaid first."""

    pending: int
    active: int
    held: int
    debt: int


class MemberView(BaseModel):
    """A member under the name that counts now: after a merge, the survivor's."""

    contact_id: UUID
    enrolled_at: datetime
    balance: Balance


class Entry(BaseModel):
    """One journal of the ledger, as the change it made to the balance."""

    id: str
    booked_at: datetime
    rule: str
    leg: str
    source_event: UUID
    purchase_id: UUID | None
    change: Balance


class Statement(BaseModel):
    """Entries, newest first; `next` is the cursor of the following page, if there is one."""

    entries: list[Entry]
    next: str | None


def not_a_member(contact_id: UUID) -> Problem:
    """Make the problem of a contact that is none of the programme's members."""
    return Problem(404, "Not a member", f"{contact_id} is not a member of the programme")


@router.get("/{contact_id}")
async def read_member(contact_id: UUID, request: Request) -> MemberView:
    """Return a member's balance."""
    service: Service = request.app.state.service
    async with service.database.read() as tx:
        member = await _find(tx, contact_id)
        book = (await store.list_books(tx, [member.contact_id]))[member.contact_id]
    balance = Balance.model_validate(balance_now(book), from_attributes=True)
    return MemberView(contact_id=member.contact_id, enrolled_at=member.enrolled_at, balance=balance)


@router.get("/{contact_id}/ledger")
async def read_ledger(
    contact_id: UUID, request: Request, limit: Limit = 50, cursor: Cursor = None
) -> Statement:
    """Return the member's statement by pages, with the entries of contacts merged into it."""
    service: Service = request.app.state.service
    async with service.database.read() as tx:
        member = await _find(tx, contact_id)
        names = await store.list_aliases(tx, member.contact_id)
        before = int(cursor) if cursor else None
        found = await store.list_entries(tx, names, before, limit + 1)
    entries = [_entry(e) for e in found[:limit]]
    return Statement(entries=entries, next=entries[-1].id if len(found) > limit else None)


async def _find(tx: Tx, contact_id: UUID) -> store.Member:
    member = await store.find_member(tx, contact_id)
    if member is None:
        raise not_a_member(contact_id)
    return member


def _entry(entry: store.StatementEntry) -> Entry:
    change = Balance(pending=entry.pending, active=entry.active, held=entry.held, debt=entry.debt)
    return Entry(
        id=str(entry.id),
        booked_at=entry.booked_at,
        rule=entry.rule,
        leg=entry.leg,
        source_event=entry.source_event,
        purchase_id=entry.purchase_id,
        change=change,
    )
