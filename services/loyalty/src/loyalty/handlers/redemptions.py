"""What callers of the API do with a member's points: hold, spend, release, undo."""

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from loyalty import store
from loyalty.domain import redemption as spends
from loyalty.domain.book import Book
from loyalty.domain.outcome import Returned
from loyalty.domain.programme import in_force
from loyalty.domain.records import Redemption
from loyalty.handlers.books import hold_timer, open_books, owner_of, publish_lapsed
from rapport.contracts.loyalty import PointsRedeemed, PointsRestored
from rapport.messaging.delivery import Command
from rapport.messaging.transaction import Timer, Tx

Step = Callable[[Book, Redemption], Returned]


async def authorise_points(
    tx: Tx, command: Command, contact_id: UUID, points: int, reference: str | None
) -> Redemption:
    """Hold points of a locked member until they are captured, released, or time is up.

    Raises RefusedError when less than that can be spent.
    """
    programme = in_force(await store.list_programmes(tx), tx.now)
    book = (await open_books(tx, [contact_id]))[contact_id]
    redemption = Redemption(
        id=command.id,
        contact_id=contact_id,
        points=points,
        reference=reference,
        authorised_at=tx.now,
        held_until=tx.now + timedelta(minutes=programme.hold_minutes),
    )
    spends.authorise(book, redemption)
    await store.save_books(tx, [book])
    due = hold_timer(redemption)
    timer = Timer(due.kind, due.key, contact_id, due.due_at, trace=command.trace)
    await tx.schedule([timer])
    return redemption


async def capture_points(
    tx: Tx, command: Command, redemption: Redemption, points: int | None
) -> Redemption:
    """Spend held points, all of them unless told otherwise; the rest is released.

    The same capture again changes nothing. Raises RefusedError.
    """
    wanted = redemption.points if points is None else points
    if redemption.state == "captured" and redemption.captured == wanted:
        return redemption

    def step(book: Book, held: Redemption) -> Returned:
        return spends.capture(book, held, wanted, command.id)

    done = await _take_step(tx, command, redemption, step)
    event = PointsRedeemed(
        contact_id=owner_of(done.contact_id, tx),
        redemption_id=done.id,
        points=done.captured,
        reference=done.reference,
    )
    tx.publish(event, cause=command)
    return done


async def release_points(tx: Tx, command: Command, redemption: Redemption) -> Redemption:
    """End a hold; again, or after its time, it changes nothing. Raises RefusedError."""
    if redemption.state_at(tx.now) == "released":
        return redemption

    def step(book: Book, held: Redemption) -> Returned:
        return spends.release(book, held, command.id)

    return await _take_step(tx, command, redemption, step)


async def reverse_redemption(tx: Tx, command: Command, redemption: Redemption) -> Redemption:
    """Undo a captured spend; again it changes nothing. Raises RefusedError."""
    if redemption.state == "reversed":
        return redemption

    def step(book: Book, captured: Redemption) -> Returned:
        returned = spends.reverse(book, captured, command.id)
        event = PointsRestored(
            contact_id=owner_of(captured.contact_id, tx),
            redemption_id=captured.id,
            points=returned.points,
            repaid=returned.repaid,
        )
        tx.publish(event, cause=command)
        return returned

    return await _take_step(tx, command, redemption, step)


async def _take_step(tx: Tx, command: Command, redemption: Redemption, step: Step) -> Redemption:
    """Let a step change the redemption as it stands in its member's book, and write it all."""
    owner = redemption.contact_id
    purchases = {allocation.purchase_id for allocation in redemption.allocations}
    book = (await open_books(tx, [owner], purchases))[owner]
    known = {r.id: r for r in book.redemptions}
    if redemption.id not in known:
        book.redemptions.append(redemption)
    current = known.get(redemption.id, redemption)
    publish_lapsed(book, step(book, current), command, tx)
    await store.save_books(tx, [book])
    await tx.cancel("hold", [str(current.id)])
    return current
