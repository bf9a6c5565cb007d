"""Members' books as they stand now: holds that are over by time are released first."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from loyalty import store
from loyalty.domain import redemption as spends
from loyalty.domain.book import Book
from loyalty.domain.outcome import Correction, Returned
from loyalty.domain.records import CappedLine, Redemption
from rapport.contracts.loyalty import PointsCorrected, PointsExpired
from rapport.messaging.delivery import Cause, TimerDue
from rapport.messaging.transaction import Tx


async def open_books(
    tx: Tx,
    contact_ids: Iterable[UUID],
    purchase_ids: Iterable[UUID] = (),
    capped: Sequence[CappedLine] = (),
) -> dict[UUID, Book]:
    """Load books with all lots of the named purchases, and those of lines of capped days.

    A hold past its deadline counts as released, whether or not its timer has fired: that is done
    here, with the rows and events that the timer would have written.
    """
    books = await store.list_books(
        tx,
        {*contact_ids, *(line.contact_id for line in capped)},
        {*purchase_ids, *(line.purchase_id for line in capped)},
    )
    for line in capped:
        books[line.contact_id].capped.append(line)
    for book in books.values():
        for redemption in [r for r in book.redemptions if r.overdue(tx.now)]:
            timer = hold_timer(redemption)
            returned = spends.release_overdue(book, redemption, timer.cause_id)
            publish_lapsed(book, returned, timer, tx)
    return books


def hold_timer(redemption: Redemption) -> TimerDue:
    """Name the timer of a hold's deadline: what it causes comes from it, whoever notices first."""
    return TimerDue("hold", str(redemption.id), redemption.contact_id, redemption.held_until, {})


def owner_of(contact_id: UUID, tx: Tx) -> UUID:
    """Return the name of a member that counts now."""
    return tx.locked.get(contact_id, contact_id)


def publish_lapsed(book: Book, returned: Returned, cause: Cause, tx: Tx) -> None:
    """Say which points came back too late."""
    for purchase_id, points in returned.lapsed.items():
        _publish_expired(book, purchase_id, points, cause, tx)


def publish_corrections(
    book: Book, corrections: Sequence[Correction], cause: Cause, tx: Tx
) -> None:
    """Say what dividing a day anew did to purchases."""
    for found in corrections:
        event = PointsCorrected(
            contact_id=owner_of(book.contact_id, tx),
            purchase_id=found.purchase_id,
            points=found.points,
            pending=found.pending,
            active=found.active,
            debt=found.debt,
        )
        tx.publish(event, cause=cause)
        _publish_expired(book, found.purchase_id, found.lapsed, cause, tx)


def _publish_expired(book: Book, purchase_id: UUID, points: int, cause: Cause, tx: Tx) -> None:
    if points:
        event = PointsExpired(
            contact_id=owner_of(book.contact_id, tx), purchase_id=purchase_id, points=points
        )
        tx.publish(event, cause=cause)
