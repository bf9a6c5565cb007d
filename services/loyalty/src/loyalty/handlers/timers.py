"""What time does to points."""

from collections.abc import Sequence
from uuid import UUID

import structlog

from loyalty import store
from loyalty.domain.book import Book
from loyalty.handlers.books import open_books, owner_of
from loyalty.handlers.refunds import ALARM_AFTER
from rapport import metrics
from rapport.contracts.base import Event
from rapport.contracts.loyalty import PointsAwarded, PointsExpired, PointsPending
from rapport.messaging.delivery import TimerDue
from rapport.messaging.transaction import Tx

log = structlog.get_logger()

NEXT_ACTION = "publish the purchase again from its source; the refund is applied when it arrives"


async def activate_points(due: Sequence[TimerDue], tx: Tx) -> None:
    """Make points active whose return window ended; what the member owes is repaid first."""
    books, owners = await _books_of(due, tx)
    for timer in due:
        purchase_id = UUID(timer.key)
        book = owners.get(purchase_id)
        activation = book.activate(purchase_id, timer.cause_id) if book else None
        if book and activation and activation.points:
            event = PointsAwarded(
                contact_id=owner_of(book.contact_id, tx),
                purchase_id=purchase_id,
                points=activation.points,
                repaid=activation.repaid,
            )
            tx.publish(event, cause=timer)
    await store.save_books(tx, books.values())


async def expire_points(due: Sequence[TimerDue], tx: Tx) -> None:
    """Let active points lapse that reached their first invalid instant."""
    books, owners = await _books_of(due, tx)
    for timer in due:
        purchase_id = UUID(timer.key)
        book = owners.get(purchase_id)
        points = book.expire(purchase_id, timer.cause_id) if book else 0
        if book and points:
            event = PointsExpired(
                contact_id=owner_of(book.contact_id, tx),
                purchase_id=purchase_id,
                points=points,
            )
            tx.publish(event, cause=timer)
    await store.save_books(tx, books.values())


async def release_holds(due: Sequence[TimerDue], tx: Tx) -> None:
    """Release what is still held at its deadline; opening the members' books does it."""
    holders = {timer.contact_id for timer in due}
    books = await open_books(tx, holders | {owner_of(holder, tx) for holder in holders})
    await store.save_books(tx, books.values())


async def report_waiting_refunds(due: Sequence[TimerDue], tx: Tx) -> None:
    """Raise an alarm for refunds whose purchase has not come for a week; they go on waiting.

    Once each: a timer fires once, and the purchase's arrival cancels it.
    """
    waiting = await store.list_waiting(tx, [UUID(timer.key) for timer in due])
    for timer in due:
        purchase_id = waiting.get(UUID(timer.key))
        if purchase_id is not None:
            age = tx.now - timer.due_at + ALARM_AFTER
            log.error(
                "refund_waited_too_long",
                refund_id=timer.key,
                purchase_id=str(purchase_id),
                contact_id=str(timer.contact_id),
                age_seconds=int(age.total_seconds()),
                next_action=NEXT_ACTION,
            )
            metrics.count_outcome("refund_waited_too_long", "purchase_missing")


def later(event: Event) -> Sequence[UUID]:
    """Name the activation that pending points wait for."""
    if isinstance(event, PointsPending):
        due_at, contact_id = event.active_from, event.contact_id
        return [TimerDue("activation", str(event.purchase_id), contact_id, due_at, {}).cause_id]
    return ()


async def _books_of(due: Sequence[TimerDue], tx: Tx) -> tuple[dict[UUID, Book], dict[UUID, Book]]:
    """Load the books that own the timers' purchases: all by contact, and by purchase."""
    books = await open_books(tx, (), [UUID(timer.key) for timer in due])
    return books, {lot.purchase_id: book for book in books.values() for lot in book.lots}
