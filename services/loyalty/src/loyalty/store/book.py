"""Members' books: loaded under the members' locks, changed in memory, written at once."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from loyalty.domain.book import Book
from loyalty.domain.journal import Journal, Line
from loyalty.domain.lot import Lot
from loyalty.store.capped import save_capped_lines
from loyalty.store.queries import read_query
from loyalty.store.redemption import list_holds, save_redemptions
from rapport.messaging.transaction import Tx

SAVE_BOOKS = read_query("save_books")


async def list_books(
    tx: Tx, contact_ids: Iterable[UUID], purchase_ids: Iterable[UUID] = ()
) -> dict[UUID, Book]:
    """Load the open lots, holds and debts of members, and all lots of the named purchases.

    Books of the purchases' owners come too when they were not asked for. Without lots that are
    held this is one statement.
    """
    wanted = list(set(contact_ids))
    rows = await tx.fetch(
        """
        with owner as materialized (
            select unnest($1::uuid[]) as contact_id
            union
            select contact_id from lot where purchase_id = any($2::uuid[])
        )
        select o.contact_id, coalesce(d.points, 0), l.id, l.contact_id, l.purchase_id, l.line,
            l.net_minor, l.points, l.remaining, l.active_from, l.expires_at, l.active,
            l.refunded_minor, l.clawed, l.expired, l.held
        from owner o
        left join debt d on d.contact_id = o.contact_id
        left join lot l on l.contact_id = o.contact_id
            and (l.remaining > 0 or l.held > 0 or l.purchase_id = any($2::uuid[]))
        order by l.id
        """,
        wanted,
        list(set(purchase_ids)),
    )
    books: dict[UUID, Book] = {}
    for owner, debt, *lot in rows:
        book = books.setdefault(owner, Book(owner, tx.now, debt=debt))
        if lot[0] is not None:
            book.lots.append(Lot(*lot))
    holding = [owner for owner, book in books.items() if any(lot.held for lot in book.lots)]
    for redemption in await list_holds(tx, holding) if holding else ():
        books[redemption.contact_id].redemptions.append(redemption)
    return books


async def draw_ids(tx: Tx, count: int) -> list[int]:
    """Draw numbers for lots and journals."""
    rows = await tx.fetch("select nextval('ledger_id') from generate_series(1, $1)", count)
    return [row[0] for row in rows]


async def save_books(tx: Tx, books: Iterable[Book]) -> None:
    """Write journals and whatever is new or changed; journals without lines are none."""
    books = list(books)
    journals = [j for book in books for j in book.journals if j.lines]
    lots = [lot for book in books for lot in book.lots if lot.changed]
    unnumbered = [lot for lot in lots if lot.id is None]
    ids = await draw_ids(tx, len(journals) + len(unnumbered))
    numbers = dict(zip(journals, ids, strict=False))
    for lot, number in zip(unnumbered, ids[len(journals) :], strict=True):
        lot.id = number
    debts = {book.contact_id: book.debt for book in books if book.debt_changed}
    await tx.execute(
        SAVE_BOOKS,
        *_lot_columns(lots),
        *_journal_columns(journals, ids),
        *_line_columns([(numbers[j], line) for j in journals for line in j.lines]),
        list(debts),
        list(debts.values()),
        tx.now,
        [lot.held for lot in lots],
    )
    if redemptions := [r for book in books for r in book.redemptions if r.changed]:
        await save_redemptions(tx, redemptions)
    if lines := [line for book in books for line in book.capped if line.changed]:
        await save_capped_lines(tx, lines)


def _lot_columns(lots: Sequence[Lot]) -> list[list[object]]:
    return [
        [lot.id for lot in lots],
        [lot.contact_id for lot in lots],
        [lot.purchase_id for lot in lots],
        [lot.line for lot in lots],
        [lot.net_minor for lot in lots],
        [lot.points for lot in lots],
        [lot.active_from for lot in lots],
        [lot.expires_at for lot in lots],
        [lot.remaining for lot in lots],
        [lot.active for lot in lots],
        [lot.refunded_minor for lot in lots],
        [lot.clawed for lot in lots],
        [lot.expired for lot in lots],
    ]


def _journal_columns(journals: Sequence[Journal], ids: Sequence[int]) -> list[list[object]]:
    return [
        list(ids[: len(journals)]),
        [j.contact_id for j in journals],
        [j.source_event for j in journals],
        [j.rule for j in journals],
        [j.leg for j in journals],
        [j.purchase_id for j in journals],
    ]


def _line_columns(lines: Sequence[tuple[int, Line]]) -> list[list[object]]:
    return [
        [number for number, _ in lines],
        [line.account for _, line in lines],
        [line.contact_id for _, line in lines],
        [line.lot.id if line.lot else None for _, line in lines],
        [line.points for _, line in lines],
    ]
