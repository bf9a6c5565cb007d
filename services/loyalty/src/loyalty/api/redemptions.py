"""`/v1/members/{contact_id}/redemptions`: points are held, then captured or released."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from loyalty import store
from loyalty.api.members import not_a_member
from loyalty.domain.records import Redemption, State
from loyalty.domain.redemption import RefusedError
from loyalty.handlers import redemptions as handlers
from rapport import telemetry
from rapport.answers import Answer, IdempotencyKey, answer_once
from rapport.messaging.delivery import Command
from rapport.messaging.transaction import Tx
from rapport.problem import Problem
from rapport.service import Service

router = APIRouter(prefix="/members/{contact_id}/redemptions", tags=["redemptions"])

Points = Annotated[int, Field(ge=1, le=10**15, strict=True)]
Change = Callable[[Tx, Command, Redemption], Awaitable[Redemption]]


class Wish(BaseModel):
    """Points to hold; `reference` is the caller's own, such as an order's number."""

    model_config = ConfigDict(extra="forbid")
    points: Points
    reference: Annotated[str | None, Field(min_length=1, max_length=255)] = None


class Capture(BaseModel):
    """How many of the held points are spent: all of them when nothing is said."""

    model_config = ConfigDict(extra="forbid")
    points: Points | None = None


class AllocationView(BaseModel):
    """What was taken from one lot, the points of one purchase's line."""

    model_config = ConfigDict(from_attributes=True)
    purchase_id: UUID
    line: str
    points: int
    captured: int


class RedemptionView(BaseModel):
    """A redemption as it stands now; held points are released at `held_until`."""

    id: UUID
    contact_id: UUID
    state: State
    points: int
    captured: int
    reference: str | None
    authorised_at: datetime
    held_until: datetime
    allocations: list[AllocationView]


@router.post("", status_code=201, response_model=RedemptionView)
async def authorise(
    request: Request, contact_id: UUID, wish: Wish, idempotency_key: IdempotencyKey = None
) -> Response:
    """Hold points: earliest expiry first, then oldest. Refused (409) beyond active less debt."""
    command = Command.drawn(contact_id, telemetry.current_traceparent())

    async def write(tx: Tx) -> Answer:
        member = await _lock_member(tx, contact_id)
        try:
            held = await handlers.authorise_points(tx, command, member, wish.points, wish.reference)
        except RefusedError as refused:
            raise _problem(refused) from refused
        location = f"/v1/members/{member}/redemptions/{held.id}"
        return Answer(201, _view(held, tx), member, {"Location": location})

    return await answer_once(request, idempotency_key, write)


@router.get("/{redemption_id}")
async def read_redemption(
    request: Request, contact_id: UUID, redemption_id: UUID
) -> RedemptionView:
    """Return a redemption; a hold past its deadline is released, whether or not a timer ran."""
    service: Service = request.app.state.service
    async with service.database.read() as tx:
        member = await store.find_member(tx, contact_id)
        if member is None:
            raise not_a_member(contact_id)
        return _view(await _find(tx, redemption_id, {contact_id, member.contact_id}), tx)


@router.post("/{redemption_id}/capture", response_model=RedemptionView)
async def capture(
    request: Request,
    contact_id: UUID,
    redemption_id: UUID,
    form: Capture | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Spend held points and release the rest. The same capture again changes nothing."""

    async def change(tx: Tx, command: Command, redemption: Redemption) -> Redemption:
        return await handlers.capture_points(tx, command, redemption, form.points if form else None)

    return await _change(request, (contact_id, redemption_id), idempotency_key, change)


@router.post("/{redemption_id}/release", response_model=RedemptionView)
async def release(
    request: Request,
    contact_id: UUID,
    redemption_id: UUID,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """End a hold: its points are active again, unless they expired meanwhile."""
    return await _change(
        request, (contact_id, redemption_id), idempotency_key, handlers.release_points
    )


@router.post("/{redemption_id}/reverse", response_model=RedemptionView)
async def reverse(
    request: Request,
    contact_id: UUID,
    redemption_id: UUID,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Undo a captured spend: points return to their lots and keep the lots' expiry."""
    return await _change(
        request, (contact_id, redemption_id), idempotency_key, handlers.reverse_redemption
    )


async def _change(
    request: Request, ids: tuple[UUID, UUID], key: str | None, change: Change
) -> Response:
    contact_id, redemption_id = ids
    command = Command.drawn(contact_id, telemetry.current_traceparent())

    async def write(tx: Tx) -> Answer:
        member = await _lock_member(tx, contact_id)
        redemption = await _find(tx, redemption_id, {contact_id, member})
        try:
            changed = await change(tx, command, redemption)
        except RefusedError as refused:
            raise _problem(refused) from refused
        return Answer(200, _view(changed, tx), member)

    return await answer_once(request, key, write)


async def _lock_member(tx: Tx, contact_id: UUID) -> UUID:
    """Lock a member and return the name that counts after merges; a stranger leaves no key row."""
    if await store.find_member(tx, contact_id) is None:
        raise not_a_member(contact_id)
    return (await tx.lock_keys([contact_id]))[contact_id]


async def _find(tx: Tx, redemption_id: UUID, owners: set[UUID]) -> Redemption:
    redemption = await store.find_redemption(tx, redemption_id)
    if redemption is None or redemption.contact_id not in owners:
        raise Problem(404, "No such redemption", f"the member has no redemption {redemption_id}")
    return redemption


def _problem(refused: RefusedError) -> Problem:
    errors = [{"field": refused.field, "reason": refused.reason}]
    return Problem(409, "The redemption is refused", str(refused), errors=errors)


def _view(redemption: Redemption, tx: Tx) -> RedemptionView:
    return RedemptionView(
        id=redemption.id,
        contact_id=redemption.contact_id,
        state=redemption.state_at(tx.now),
        points=redemption.points,
        captured=redemption.captured,
        reference=redemption.reference,
        authorised_at=redemption.authorised_at,
        held_until=redemption.held_until,
        allocations=[AllocationView.model_validate(a) for a in redemption.allocations],
    )
