"""Spends: points are held, then captured or released; a captured spend can be reversed."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from loyalty.domain.book import Book
from loyalty.domain.lot import Lot, spending_order
from loyalty.domain.outcome import Balance, Returned
from loyalty.domain.records import Allocation, Redemption, State

Part = tuple[Allocation, int]
"""So many points of an allocation."""


class RefusedError(Exception):
    """A redemption cannot do what was asked; names the field and the reason."""

    def __init__(self, field_: str, reason: str) -> None:
        """Take the field's name and what is wrong with it."""
        super().__init__(f"{field_} {reason}")
        self.field = field_
        self.reason = reason


def authorise(book: Book, redemption: Redemption) -> None:
    """Hold points, earliest expiry first, then oldest; what is owed cannot be held.

    Raises RefusedError.
    """
    spendable = book.balance().spendable
    if redemption.points > spendable:
        raise RefusedError("points", f"are more than the {spendable} that can be spent")
    journal = book.journal(redemption.id, "redemption", "authorise", None)
    missing = redemption.points
    usable = [lot for lot in book.lots if lot.usable(book.now) and lot.remaining]
    for lot in sorted(usable, key=spending_order):
        if points := lot.hold(missing):
            journal.move(points, "active", "held", lot)
            redemption.allocations.append(Allocation(lot.purchase_id, lot.line, points))
            missing -= points
    redemption.changed = True
    book.redemptions.append(redemption)


def capture(book: Book, redemption: Redemption, points: int, source: UUID) -> Returned:
    """Spend so many of the held points, in the order of their lots, and release the rest.

    Raises RefusedError.
    """
    require(redemption, "held")
    if points > redemption.points:
        raise RefusedError("points", f"are more than the {redemption.points} that are held")
    journal = book.journal(source, "redemption", "capture", None)
    missing = points
    for allocation in redemption.allocations:
        allocation.captured = min(missing, allocation.points)
        missing -= allocation.captured
        if allocation.captured:
            lot = _lot(book, allocation)
            lot.let_go(allocation.captured)
            journal.move(allocation.captured, "held", "redeemed", lot)
    redemption.captured = points
    rest = [(a, a.points - a.captured) for a in redemption.allocations if a.points > a.captured]
    return _close(redemption, "captured", _release(book, rest, source, book.now))


def release(book: Book, redemption: Redemption, source: UUID) -> Returned:
    """End the hold. Points of lots past their expiry lapse. Raises RefusedError."""
    require(redemption, "held")
    return _release_all(book, redemption, source, book.now)


def release_overdue(book: Book, redemption: Redemption, source: UUID) -> Returned:
    """End the hold as of its deadline, however late this is noticed."""
    return _release_all(book, redemption, source, redemption.held_until)


def balance_now(book: Book) -> Balance:
    """Return the balance after what time has done to holds; the book is only good for that then."""
    for redemption in [r for r in book.redemptions if r.overdue(book.now)]:
        release_overdue(book, redemption, redemption.id)
    return book.balance()


def reverse(book: Book, redemption: Redemption, source: UUID) -> Returned:
    """Undo a captured spend: its points return to their lots and keep the lots' expiry.

    Those of lots past their expiry lapse, so cancelling does not dodge it. Raises RefusedError.
    """
    require(redemption, "captured")
    journal = book.journal(source, "redemption", "restore", None)
    returned, lots = Returned(), []
    for allocation in redemption.allocations:
        lot, points = _lot(book, allocation), allocation.captured
        if lot.due(book.now):
            lot.lose(points)
            journal.move(points, "redeemed", "expired", lot)
            returned.lapsed[lot.purchase_id] += points
        elif points:
            lot.put_back(points)
            journal.move(points, "redeemed", "active", lot)
            returned.points += points
            lots.append(lot)
    returned.repaid = book.repay(lots, book.journal(source, "redemption", "repay", None))
    return _close(redemption, "reversed", returned)


def require(redemption: Redemption, state: State) -> None:
    """Raise RefusedError unless the redemption is in this state."""
    if redemption.state != state:
        raise RefusedError("state", f"is {redemption.state} and would have to be {state}")


def _release_all(book: Book, redemption: Redemption, source: UUID, at: datetime) -> Returned:
    parts = [(allocation, allocation.points) for allocation in redemption.allocations]
    return _close(redemption, "released", _release(book, parts, source, at))


def _release(book: Book, parts: Sequence[Part], source: UUID, at: datetime) -> Returned:
    """Return held points to their lots as of an instant, and do what time has done since then."""
    journal = book.journal(source, "redemption", "release", None)
    returned, lots = Returned(), []
    for allocation, points in parts:
        lot = _lot(book, allocation)
        lot.let_go(points)
        if lot.due(at):
            lot.lose(points)
            journal.move(points, "held", "expired", lot)
            returned.lapsed[lot.purchase_id] += points
        else:
            lot.put_back(points)
            journal.move(points, "held", "active", lot)
            returned.points += points
            lots.append(lot)
    returned.repaid = book.repay(lots, book.journal(source, "redemption", "repay", None), at)
    expiry = book.journal(source, "redemption", "expire", None)
    for lot in lots:
        if lapsed := book.lapse([lot], expiry):
            returned.lapsed[lot.purchase_id] += lapsed
    return returned


def _close(redemption: Redemption, state: State, returned: Returned) -> Returned:
    redemption.state, redemption.changed = state, True
    return returned


def _lot(book: Book, allocation: Allocation) -> Lot:
    lot = book.find_lot(allocation.purchase_id, allocation.line)
    if lot is None:
        raise LookupError(f"lot {allocation.purchase_id} {allocation.line} was not loaded")
    return lot
