"""Holds and spends, without a database."""

from collections import Counter
from datetime import timedelta

import pytest

from loyalty.domain import redemption as spends
from loyalty.domain.book import Book
from loyalty.domain.records import Redemption
from rapport.messaging.ids import derived_id
from services.loyalty.tests.test_domain import AT, MEMBER, credit, refund

SOON, LATE = AT + timedelta(days=1), AT + timedelta(days=9)
SALE = {name: derived_id("purchase", name) for name in ("late", "never", "soon")}


@pytest.fixture
def book() -> Book:
    """Thirty points in three lots, the one that expires last in front."""
    book = Book(MEMBER, AT)
    for name, expires_at in (("late", LATE), ("never", None), ("soon", SOON)):
        book.credit_active(credit(name, 10, expires_at=expires_at))
    return book


def hold(book: Book, points: int) -> Redemption:
    redemption = Redemption(
        derived_id("redemption", len(book.redemptions)),
        MEMBER,
        points,
        None,
        book.now,
        book.now + timedelta(minutes=30),
    )
    spends.authorise(book, redemption)
    return redemption


def balance(book: Book) -> tuple[int, int, int]:
    found = book.balance()
    return found.active, found.held, found.debt


def moves(book: Book, leg: str) -> Counter[str]:
    """Sum what the journals of a leg did to each account."""
    found: Counter[str] = Counter()
    for journal in book.journals:
        for line in journal.lines if journal.leg == leg else ():
            found[line.account] += line.points
    return found


def test_points_are_held_by_earliest_expiry_then_oldest(book: Book) -> None:
    held = hold(book, 25)
    assert [(a.purchase_id, a.points) for a in held.allocations] == [
        (SALE["soon"], 10),
        (SALE["late"], 10),
        (SALE["never"], 5),
    ]
    assert balance(book) == (5, 25, 0)
    assert moves(book, "authorise") == {"active": -25, "held": 25}


def test_equal_expiry_holds_the_oldest_first() -> None:
    book = Book(MEMBER, AT)
    for name in ("b", "a"):
        book.credit_active(credit(name, 10))
    assert [a.purchase_id for a in hold(book, 5).allocations] == [derived_id("purchase", "b")]


def test_what_is_owed_pending_or_past_its_expiry_cannot_be_held(book: Book) -> None:
    book.credit(credit("pending", 100))
    book.owe(4)
    book.now = SOON
    assert balance(book) == (20, 0, 4)
    with pytest.raises(spends.RefusedError, match="points are more than the 16"):
        hold(book, 17)
    assert [lot.held for lot in book.lots] == [0, 0, 0, 0]
    assert {a.purchase_id for a in hold(book, 16).allocations} == {SALE["late"], SALE["never"]}


def test_capture_spends_in_order_and_releases_the_rest(book: Book) -> None:
    held = hold(book, 25)
    spends.capture(book, held, 12, MEMBER)
    assert (held.state, held.captured) == ("captured", 12)
    assert [a.captured for a in held.allocations] == [10, 2, 0]
    assert balance(book) == (18, 0, 0)
    assert moves(book, "capture") == {"held": -12, "redeemed": 12}
    assert moves(book, "release") == {"held": -13, "active": 13}


def test_capture_takes_no_more_than_is_held_and_only_once(book: Book) -> None:
    held = hold(book, 5)
    with pytest.raises(spends.RefusedError, match="points are more than the 5"):
        spends.capture(book, held, 6, MEMBER)
    spends.capture(book, held, 5, MEMBER)
    with pytest.raises(spends.RefusedError, match="state is captured"):
        spends.capture(book, held, 5, MEMBER)
    with pytest.raises(spends.RefusedError, match="state is captured"):
        spends.release(book, held, MEMBER)


def test_held_points_outlive_their_expiry_until_capture(book: Book) -> None:
    held = hold(book, 10)
    book.now = SOON
    assert book.expire(SALE["soon"], MEMBER) == 0
    spends.capture(book, held, 10, MEMBER)
    assert moves(book, "capture") == {"held": -10, "redeemed": 10}


def test_held_points_past_their_expiry_lapse_on_release(book: Book) -> None:
    held = hold(book, 15)
    book.now = SOON
    returned = spends.release(book, held, MEMBER)
    assert (returned.points, returned.lapsed) == (5, {SALE["soon"]: 10})
    assert moves(book, "release") == {"held": -15, "active": 5, "expired": 10}
    assert balance(book) == (20, 0, 0)


def test_uncaptured_points_past_their_expiry_lapse_too(book: Book) -> None:
    held = hold(book, 10)
    book.now = SOON
    returned = spends.capture(book, held, 3, MEMBER)
    assert returned.lapsed == {SALE["soon"]: 7}
    assert book.lots[2].expired == 7


def test_overdue_hold_is_released_as_of_its_deadline(book: Book) -> None:
    """What repays a debt is still good at the deadline, whenever that is noticed."""
    held = hold(book, 10)
    book.owe(4)
    book.now = LATE
    returned = spends.release_overdue(book, held, MEMBER)
    assert (returned.points, returned.repaid, returned.lapsed) == (10, 4, {SALE["soon"]: 6})
    assert balance(book) == (10, 0, 0)


def test_claw_takes_no_held_points(book: Book) -> None:
    hold(book, 30)
    reversal = book.claw(refund("late", 1000), "debt")
    assert (reversal.from_active, reversal.to_debt) == (0, 10)
    assert balance(book) == (0, 30, 10)


def test_released_points_repay_what_is_owed_before_they_can_be_spent(book: Book) -> None:
    held = hold(book, 30)
    book.owe(12)
    returned = spends.release(book, held, MEMBER)
    assert (returned.points, returned.repaid) == (30, 12)
    assert balance(book) == (18, 0, 0)


def test_restored_points_return_to_their_lots_and_keep_the_expiry(book: Book) -> None:
    held = hold(book, 25)
    spends.capture(book, held, 22, MEMBER)
    returned = spends.reverse(book, held, MEMBER)
    assert (held.state, returned.points, dict(returned.lapsed)) == ("reversed", 22, {})
    assert [lot.remaining for lot in book.lots] == [10, 10, 10]
    assert [lot.expires_at for lot in book.lots] == [LATE, None, SOON]
    with pytest.raises(spends.RefusedError, match="state is reversed"):
        spends.reverse(book, held, MEMBER)


def test_restored_points_past_their_expiry_stay_expired(book: Book) -> None:
    held = hold(book, 15)
    spends.capture(book, held, 15, MEMBER)
    book.now = SOON
    returned = spends.reverse(book, held, MEMBER)
    assert (returned.points, returned.lapsed) == (5, {SALE["soon"]: 10})
    assert moves(book, "restore") == {"redeemed": -15, "active": 5, "expired": 10}


def test_restored_points_repay_what_is_owed(book: Book) -> None:
    held = hold(book, 30)
    spends.capture(book, held, 30, MEMBER)
    book.claw(refund("late", 1000), "debt")
    returned = spends.reverse(book, held, MEMBER)
    assert (returned.points, returned.repaid) == (30, 10)
    assert balance(book) == (20, 0, 0)


def test_points_past_their_expiry_repay_nothing() -> None:
    """Else the balance would depend on what came first: these points, or the refund of others."""
    book = Book(MEMBER, SOON, debt=5)
    assert book.credit_active(credit("a", 10, expires_at=SOON)).repaid == 0
    assert book.expire(derived_id("purchase", "a"), MEMBER) == 10
    assert book.debt == 5
