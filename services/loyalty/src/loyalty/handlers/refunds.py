"""Refunds take points back."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from loyalty import store
from loyalty.domain.book import Book
from loyalty.domain.cap import claw_capped
from loyalty.domain.outcome import Reversal
from loyalty.domain.programme import Programme, in_force
from loyalty.domain.records import CappedLine, Refund
from loyalty.handlers.books import open_books, publish_corrections
from rapport.contracts.contacts import PurchaseRefunded
from rapport.contracts.loyalty import PointsReversed
from rapport.messaging.delivery import Cause, Delivery
from rapport.messaging.handler import several_per_contact
from rapport.messaging.transaction import Timer, Tx

ALARM_AFTER = timedelta(days=7)


@several_per_contact
async def reverse_points(refunds: Sequence[Delivery[PurchaseRefunded]], tx: Tx) -> None:
    """Claw what refunded lines had earned; a refund before its purchase waits for it in a row."""
    causes: dict[UUID, Delivery[PurchaseRefunded]] = {}
    for delivery in refunds:
        causes.setdefault(delivery.event.refund_id, delivery)
    seen = [_refund(d) for d in causes.values()]
    new = await store.add_refunds(tx, seen)
    known = await store.list_earned(tx, {r.purchase_id for r in seen})
    await _let_wait([r for r in seen if r.refund_id in new and r.purchase_id not in known], tx)
    due = [r for r in seen if r.refund_id in new and r.purchase_id in known]
    if not due:
        return
    programmes = await store.list_programmes(tx)
    lines = await _capped_lines(due, known, programmes, tx)
    books = await open_books(tx, {r.contact_id for r in due}, {r.purchase_id for r in due}, lines)
    owners = {lot.purchase_id: key for key, book in books.items() for lot in book.lots}
    owners |= {line.purchase_id: line.contact_id for line in lines}
    for refund in due:
        if owners.get(refund.purchase_id, refund.contact_id) != refund.contact_id:
            raise ForeignPurchaseError(refund)
        claw(books[refund.contact_id], refund, programmes, causes[refund.refund_id], tx)
    await store.save_books(tx, books.values())


def claw(book: Book, refund: Refund, programmes: Sequence[Programme], cause: Cause, tx: Tx) -> None:
    """Take back what a refund's lines had earned, and say so."""
    shortfall = in_force(programmes, refund.occurred_at).shortfall
    if any(line.purchase_id == refund.purchase_id for line in book.capped):
        corrections, reversal = claw_capped(book, refund, shortfall)
        publish_corrections(book, corrections, cause, tx)
    else:
        reversal = book.claw(refund, shortfall)
    publish_reversal(refund, reversal, cause, tx)


async def _capped_lines(
    refunds: Sequence[Refund], known: Mapping[UUID, int], programmes: Sequence[Programme], tx: Tx
) -> Sequence[CappedLine]:
    """Return the lines of the days of those refunded purchases whose version has a cap."""
    caps = {programme.version for programme in programmes if programme.daily_cap is not None}
    capped = {r.purchase_id for r in refunds if known[r.purchase_id] in caps}
    return await store.list_days_of(tx, capped) if capped else ()


class ForeignPurchaseError(Exception):
    """A refund names a purchase whose points belong to another member."""

    def __init__(self, refund: Refund) -> None:
        """Name both."""
        super().__init__(f"purchase {refund.purchase_id} is not one of {refund.contact_id}")


def publish_reversal(refund: Refund, reversal: Reversal, cause: Cause, tx: Tx) -> None:
    """Say where points were taken from; nothing is said when none were."""
    if reversal.points:
        event = PointsReversed(
            contact_id=refund.contact_id,
            purchase_id=refund.purchase_id,
            refund_id=refund.refund_id,
            from_pending=reversal.from_pending,
            from_active=reversal.from_active,
            to_debt=reversal.to_debt,
        )
        tx.publish(event, cause=cause)


async def _let_wait(refunds: Sequence[Refund], tx: Tx) -> None:
    if refunds:
        await store.add_waiting_refunds(tx, refunds)
        due_at = tx.now + ALARM_AFTER
        await tx.schedule(
            [Timer("waiting-refund", str(r.refund_id), r.contact_id, due_at) for r in refunds]
        )


def _refund(delivery: Delivery[PurchaseRefunded]) -> Refund:
    event = delivery.event
    return Refund(
        event.refund_id,
        event.purchase_id,
        delivery.contact_id,
        delivery.id,
        event.occurred_at,
        event.lines,
    )
