"""What time does to points."""

from collections.abc import Sequence
from uuid import UUID

import structlog

from loyalty import store
from loyalty.domain.book import Book
from rapport.contracts.base import Event
from rapport.contracts.loyalty import PointsAwarded, PointsExpired, PointsPending
from rapport.messaging.delivery import TimerDue
from rapport.messaging.transaction import Tx

log = structlog.get_logger()


async def activate_points(due: Sequence[TimerDue], tx: Tx) -> None:
    """Make points active whose return window ended; what the member owes is repaid first."""
    books, owners = await _books_of(due, tx)
    for timer in due:
        purchase_id = UUID(timer.key)
        book = owners.get(purchase_id)
        activation = book.activate(purchase_id, timer.cause_id) if book else None
        if book and activation and activation.points:
            event = PointsAwarded(
                contact_id=tx.locked.get(book.contact_id, book.contact_id),
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
        points = book.expire(purchase_id, timer.cause_id, tx.now) if book else 0
        if book and points:
            event = PointsExpired(
                contact_id=tx.locked.get(book.contact_id, book.contact_id),
                purchase_id=purchase_id,
                points=points,
            )
            tx.publish(event, cause=timer)
    await store.save_books(tx, books.values())


async def report_waiting_refunds(due: Sequence[TimerDue], tx: Tx) -> None:
    """Warn about refunds whose purchase has not come for a week; they go on waiting."""
    waiting = await store.list_waiting(tx, [UUID(timer.key) for timer in due])
    for refund_id, purchase_id in waiting.items():
        log.warning(
            "refund_waited_too_long", refund_id=str(refund_id), purchase_id=str(purchase_id)
        )


def later(event: Event) -> Sequence[UUID]:
    """Name the activation that pending points wait for."""
    if isinstance(event, PointsPending):
        due_at, contact_id = event.active_from, event.contact_id
        return [TimerDue("activation", str(event.purchase_id), contact_id, due_at, {}).cause_id]
    return ()


async def _books_of(due: Sequence[TimerDue], tx: Tx) -> tuple[dict[UUID, Book], dict[UUID, Book]]:
    """Load the books that own the timers' purchases: all by contact, and by purchase."""
    books = await store.list_books(tx, (), [UUID(timer.key) for timer in due])
    return books, {lot.purchase_id: book for book in books.values() for lot in book.lots}
