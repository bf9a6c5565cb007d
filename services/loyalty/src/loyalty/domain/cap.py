"""A cap on what a member earns on a local day, whatever the order in which the day becomes known.

What the cap leaves is a function of the day's purchases and refunds alone: lines get their points
in the order of (occurred_at, purchase id, line) until the cap is reached. A late event therefore
divides the day anew, and journals make up for the difference.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from itertools import groupby
from uuid import UUID

import msgspec

from loyalty.domain.book import Book
from loyalty.domain.earning import Credit
from loyalty.domain.lot import Lot
from loyalty.domain.outcome import Correction, Reversal
from loyalty.domain.programme import Shortfall
from loyalty.domain.records import CappedLine, Refund

Change = tuple[CappedLine, int]
"""A line, and by how much its grant changed."""


def divide(lines: Sequence[CappedLine]) -> Iterator[tuple[CappedLine, int]]:
    """Yield what each line of one day is granted, in the order in which they are served."""
    used = 0
    for line in sorted(lines, key=_place):
        granted = min(line.left, max(line.cap - used, 0))
        used += granted
        yield line, granted


def count_in(book: Book, credit: Credit) -> Credit:
    """Add a purchase's lines to its day; return what the cap leaves of it."""
    assert credit.day is not None and credit.cap is not None  # noqa: S101, PT018
    own = [
        CappedLine(
            contact_id=book.contact_id,
            day=credit.day,
            purchase_id=credit.purchase_id,
            number=number,
            line=share.line,
            occurred_at=credit.occurred_at,
            cap=credit.cap,
            net_minor=share.net_minor,
            points=share.points,
            active_from=credit.active_from,
            expires_at=credit.expires_at,
            changed=True,
        )
        for number, share in enumerate(credit.shares)
        if share.points
    ]
    book.capped += own
    granted = {line: points for line, points in divide(_day(book, credit.day)) if line in own}
    for line, points in granted.items():
        line.grant(points)
    by_line = {line.line: points for line, points in granted.items()}
    shares = tuple(
        msgspec.structs.replace(share, points=by_line.get(share.line, 0)) for share in credit.shares
    )
    return replace(credit, shares=shares, points=sum(by_line.values()))


def make_room(book: Book, day: date, source: UUID, shortfall: Shortfall) -> list[Correction]:
    """Take back what lines of a day have no longer got, because others come first."""
    return _lower(book, [day], source, shortfall)


def unite_days(book: Book, source: UUID, shortfall: Shortfall) -> list[Correction]:
    """Divide all loaded days anew, after another member's lines have come to them."""
    return _lower(book, sorted({line.day for line in book.capped}), source, shortfall)


def _lower(
    book: Book, days: Sequence[date], source: UUID, shortfall: Shortfall
) -> list[Correction]:
    divided = [pair for day in days for pair in divide(_day(book, day))]
    changes = [(line, line.grant(points)) for line, points in divided]
    journal = book.journal(source, "cap", "divide", None)
    corrections = []
    for purchase_id, lines in groupby(changes, key=lambda change: change[0].purchase_id):
        claims = [(_lot(book, line), -change) for line, change in lines if change]
        if claims:
            found = book.take_back(_claimed(claims), journal, shortfall)
            points = sum(claimed for _, claimed in claims)
            corrections.append(
                Correction(
                    purchase_id, -points, -found.from_pending, -found.from_active, found.to_debt
                )
            )
    return corrections


def claw_capped(
    book: Book, refund: Refund, shortfall: Shortfall
) -> tuple[list[Correction], Reversal]:
    """Take back what a refund of a capped purchase leaves of it no longer.

    What becomes free goes to the day's later lines, before anything is taken back.
    """
    own = {line.line: line for line in book.capped if line.purchase_id == refund.purchase_id}
    for refunded in refund.lines:
        if refunded.line in own:
            own[refunded.line].refund(refunded.net_minor)
    day = next((line.day for line in own.values()), None)
    changes = [(line, line.grant(points)) for line, points in divide(_day(book, day))]
    corrections = _raise(book, [change for change in changes if change[1] > 0], refund.event_id)
    claims = [(_lot(book, line), -change) for line, change in changes if change < 0]
    journal = book.journal(refund.event_id, "refund", "claw", refund.purchase_id)
    return corrections, book.take_back(_claimed(claims), journal, shortfall)


def _raise(book: Book, changes: Sequence[Change], source: UUID) -> list[Correction]:
    divided = book.journal(source, "cap", "divide", None)
    repayment = book.journal(source, "cap", "repay", None)
    expiry = book.journal(source, "cap", "expire", None)
    corrections = []
    for purchase_id, lines in groupby(changes, key=lambda change: change[0].purchase_id):
        pending = active = 0
        lots = []
        for line, points in lines:
            lot = book.find_lot(purchase_id, line.line) or _open_lot(book, line)
            lot.issue(points)
            divided.move(points, "issued", "active" if lot.active else "pending", lot)
            active += points if lot.active else 0
            pending += 0 if lot.active else points
            lots.append(lot)
        repaid = book.repay(lots, repayment)
        lapsed = book.lapse(lots, expiry)
        corrections.append(
            Correction(purchase_id, pending + active, pending, active - repaid, -repaid, lapsed)
        )
    return corrections


def _open_lot(book: Book, line: CappedLine) -> Lot:
    lot = Lot(
        id=None,
        contact_id=book.contact_id,
        purchase_id=line.purchase_id,
        line=line.line,
        net_minor=line.net_minor,
        points=0,
        remaining=0,
        active_from=line.active_from,
        expires_at=line.expires_at,
        active=line.active_from <= book.now,
    )
    book.lots.append(lot)
    return lot


def _claimed(claims: Sequence[tuple[Lot, int]]) -> Sequence[tuple[Lot, int]]:
    for lot, points in claims:
        lot.claim(points)
    return claims


def _lot(book: Book, line: CappedLine) -> Lot:
    lot = book.find_lot(line.purchase_id, line.line)
    if lot is None:
        raise LookupError(f"lot {line.purchase_id} {line.line} was not loaded")
    return lot


def _day(book: Book, day: date | None) -> list[CappedLine]:
    return [line for line in book.capped if line.day == day]


def _place(line: CappedLine) -> tuple[object, ...]:
    return (line.occurred_at, line.purchase_id.bytes, line.number)
