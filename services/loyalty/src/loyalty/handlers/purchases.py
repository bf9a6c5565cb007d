"""Purchases become points."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from loyalty import store
from loyalty.domain.book import Book
from loyalty.domain.cap import count_in, make_room
from loyalty.domain.earning import Credit, credit_for
from loyalty.domain.outcome import Activation
from loyalty.domain.programme import Programme, in_force
from loyalty.domain.records import Refund
from loyalty.handlers.books import open_books, publish_corrections
from loyalty.handlers.refunds import claw
from rapport.contracts.contacts import PurchaseRecorded
from rapport.contracts.loyalty import MemberEnrolled, PointsAwarded, PointsExpired, PointsPending
from rapport.messaging.delivery import Delivery
from rapport.messaging.handler import several_per_contact
from rapport.messaging.transaction import Timer, Tx


@dataclass(frozen=True, slots=True)
class Batch:
    """One list of purchases with what they earn, and the programme they were judged by."""

    credits: Sequence[Credit]
    causes: Mapping[UUID, Delivery[PurchaseRecorded]]
    programmes: Sequence[Programme]

    def enrolled_at(self) -> dict[UUID, datetime]:
        """Return when a contact would enrol by its purchase: with the first one of the list."""
        return {c.contact_id: self.causes[c.purchase_id].time for c in reversed(self.credits)}

    def of(self, contacts: set[UUID], *, others: bool = False) -> "Batch":
        """Return the part that belongs to these contacts, or to the others."""
        chosen = [c for c in self.credits if (c.contact_id in contacts) is not others]
        return Batch(chosen, self.causes, self.programmes)


@several_per_contact
async def award_points(purchases: Sequence[Delivery[PurchaseRecorded]], tx: Tx) -> None:
    """Credit each purchase's points: pending until the return window ends, active after it.

    One statement does it for members without debt, waiting refunds, points that have lapsed and
    daily cap; the books of the others are loaded. Both ways write the same rows and events.
    """
    causes: dict[UUID, Delivery[PurchaseRecorded]] = {}
    for delivery in purchases:
        causes.setdefault(delivery.event.purchase_id, delivery)
    programmes = await store.list_programmes(tx)
    credits_ = [credit_for(d.event, d.contact_id, d.id, programmes) for d in causes.values()]
    batch = Batch(credits_, causes, programmes)
    odd = {c.contact_id for c in credits_ if c.cap is not None or c.lapsed(tx.now)}
    odd |= await _credit_usual(batch.of(odd, others=True), tx)
    if odd:
        await credit_books(batch.of(odd), tx)


async def _credit_usual(batch: Batch, tx: Tx) -> set[UUID]:
    """Write what one statement can; return the contacts that it left alone."""
    if not batch.credits:
        return set()
    added = await store.add_credits(tx, batch.credits, batch.enrolled_at())
    _publish_enrolments(batch, added.enrolled, tx)
    fresh = [c for c in batch.credits if c.purchase_id in added.purchases and c.points]
    for credit in fresh:
        _publish_credit(credit, Activation(credit.points, 0), batch.causes[credit.purchase_id], tx)
    await _schedule(batch, fresh, tx)
    return added.odd


async def credit_books(batch: Batch, tx: Tx) -> None:
    """Do the same through the members' books, whatever state they are in."""
    _publish_enrolments(batch, await store.add_members(tx, batch.enrolled_at()), tx)
    added = await store.add_earnings(tx, batch.credits)
    fresh = [c for c in batch.credits if c.purchase_id in added]
    waiting = await store.take_waiting_refunds(tx, added)
    days = {(c.contact_id, c.day) for c in fresh if c.day is not None}
    capped = await store.list_days(tx, days) if days else ()
    books = await open_books(tx, {c.contact_id for c in fresh}, capped=capped)
    for credit in fresh:
        book, cause = books[credit.contact_id], batch.causes[credit.purchase_id]
        if credit.points:
            _credit(book, credit, batch, tx)
        for refund in waiting.get(credit.purchase_id, ()):
            claw(book, replace(refund, contact_id=book.contact_id), batch.programmes, cause, tx)
    await store.save_books(tx, books.values())
    await _schedule(batch, [c for c in fresh if c.points], tx)
    await _end_wait([refund for refunds in waiting.values() for refund in refunds], tx)


async def _end_wait(refunds: Sequence[Refund], tx: Tx) -> None:
    if refunds:
        await tx.cancel("waiting-refund", [str(refund.refund_id) for refund in refunds])


def _credit(book: Book, credit: Credit, batch: Batch, tx: Tx) -> None:
    cause = batch.causes[credit.purchase_id]
    granted = credit if credit.day is None else count_in(book, credit)
    if granted.points:
        _issue(book, granted, cause, tx)
    if credit.day is not None:
        shortfall = in_force(batch.programmes, credit.occurred_at).shortfall
        corrections = make_room(book, credit.day, credit.event_id, shortfall)
        publish_corrections(book, corrections, cause, tx)


def _issue(book: Book, credit: Credit, cause: Delivery[PurchaseRecorded], tx: Tx) -> None:
    if credit.active_from > tx.now:
        book.credit(credit)
        _publish_credit(credit, Activation(credit.points, 0), cause, tx)
        return
    _publish_credit(credit, book.credit_active(credit), cause, tx)
    expired = book.expire(credit.purchase_id, credit.event_id)
    if expired:
        event = PointsExpired(
            contact_id=credit.contact_id, purchase_id=credit.purchase_id, points=expired
        )
        tx.publish(event, cause=cause)


def _publish_enrolments(batch: Batch, enrolled: set[UUID], tx: Tx) -> None:
    for credit in batch.credits:
        if credit.contact_id in enrolled:
            enrolled.remove(credit.contact_id)
            cause = batch.causes[credit.purchase_id]
            event = MemberEnrolled(contact_id=credit.contact_id, enrolled_at=cause.time)
            tx.publish(event, cause=cause)


def _publish_credit(
    credit: Credit, activation: Activation, cause: Delivery[PurchaseRecorded], tx: Tx
) -> None:
    event = (
        PointsPending(
            contact_id=credit.contact_id,
            purchase_id=credit.purchase_id,
            points=credit.points,
            active_from=credit.active_from,
        )
        if credit.active_from > tx.now
        else PointsAwarded(
            contact_id=credit.contact_id,
            purchase_id=credit.purchase_id,
            points=activation.points,
            repaid=activation.repaid,
        )
    )
    tx.publish(event, cause=cause)


async def _schedule(batch: Batch, credits_: Sequence[Credit], tx: Tx) -> None:
    timers = [
        timer
        for credit in credits_
        for timer in _timers(credit, batch.causes[credit.purchase_id].trace, tx.now)
    ]
    if timers:
        await tx.schedule(timers)


def _timers(credit: Credit, trace: str | None, now: datetime) -> Iterator[Timer]:
    """Yield what is left to happen: activation, and expiry once the points are active."""
    key = str(credit.purchase_id)
    if credit.active_from > now:
        yield Timer("activation", key, credit.contact_id, credit.active_from, trace=trace)
    if credit.expires_at and credit.expires_at > now:
        yield Timer("expiry", key, credit.contact_id, credit.expires_at, trace=trace)
