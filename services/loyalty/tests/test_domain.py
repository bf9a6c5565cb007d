"""The programme's rules, without a database."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalty.domain.book import Book
from loyalty.domain.earning import Credit, Share, active_after, expiry_of, shares_of
from loyalty.domain.outcome import Activation
from loyalty.domain.programme import Programme, in_force
from loyalty.domain.records import Refund
from rapport.contracts.contacts import PurchaseLine, RefundedLine
from rapport.messaging.ids import derived_id

MEMBER = derived_id("member")
AT = datetime(2026, 3, 2, 9, tzinfo=UTC)
PROGRAMME = Programme(1, datetime(1900, 1, 1, tzinfo=UTC), "Europe/Prague", 14, 1, "debt", None)

nets = st.lists(st.integers(0, 100_000), min_size=1, max_size=6)


def line(number: int, net_minor: int, *, excluded: bool = False) -> PurchaseLine:
    return PurchaseLine(
        line=str(number), sku="s", quantity=1, net_minor=net_minor, excluded=excluded
    )


def credit(name: str, *points: int, expires_at: datetime | None = None) -> Credit:
    """Make a purchase whose lines cost 1.00 a point."""
    shares = tuple(Share(str(n), 100 * p, p) for n, p in enumerate(points))
    return Credit(
        derived_id("purchase", name),
        MEMBER,
        derived_id("event", name),
        AT,
        1,
        sum(points),
        shares,
        AT,
        expires_at,
    )


def refund(name: str, *net_minor: int, number: int = 0) -> Refund:
    lines = tuple(RefundedLine(line=str(n), net_minor=net) for n, net in enumerate(net_minor))
    key = derived_id("refund", name, number)
    return Refund(key, derived_id("purchase", name), MEMBER, key, AT, lines)


def spend(book: Book, points: int) -> None:
    for lot in book.lots:
        points -= lot.take(points) if lot.active else 0
    assert points == 0


def balance(book: Book) -> tuple[int, int, int]:
    pending = sum(lot.remaining for lot in book.lots if not lot.active)
    active = sum(lot.remaining for lot in book.lots if lot.active)
    return pending, active, book.debt


def test_points_are_floored_per_order_not_per_line() -> None:
    assert [s.points for s in shares_of([line(1, 150), line(2, 60)], 1)] == [1, 1]


def test_last_line_takes_the_rest_of_the_floored_shares() -> None:
    shares = shares_of([line(n, 3333) for n in range(3)], 1)
    assert [s.points for s in shares] == [33, 33, 33]
    assert [s.points for s in shares_of([line(n, 3350) for n in range(3)], 1)] == [33, 33, 34]


def test_excluded_and_free_lines_take_no_part() -> None:
    lines = [line(1, 1000), line(2, 5000, excluded=True), line(3, 550), line(4, 0)]
    assert [(s.line, s.points) for s in shares_of(lines, 1)] == [("1", 9), ("3", 6)]


def test_points_count_whole_units() -> None:
    assert sum(s.points for s in shares_of([line(1, 299)], 3)) == 6
    assert shares_of([line(1, 99)], 1)[0].points == 0
    assert shares_of([line(1, 0)], 1) == ()


@given(nets, st.integers(0, 5))
def test_shares_sum_to_the_orders_points_and_follow_the_net(amounts: list[int], rate: int) -> None:
    shares = shares_of([line(n, net) for n, net in enumerate(amounts)], rate)
    assert sum(s.points for s in shares) == sum(amounts) // 100 * rate
    assert all(s.points >= 0 for s in shares)


@given(st.integers(0, 1000), st.lists(st.integers(1, 50_000), min_size=1, max_size=8))
def test_full_refund_in_any_parts_claws_exactly_what_was_earned(
    extra: int, parts: list[int]
) -> None:
    points = sum(parts) // 100 + 1
    whole = replace(credit("a"), points=points, shares=(Share("0", sum(parts), points),))
    book = Book(MEMBER, AT)
    book.credit(whole)
    clawed = [book.claw(refund("a", net, number=n), "debt").points for n, net in enumerate(parts)]
    assert sum(clawed) == points
    assert book.claw(refund("a", extra, number=99), "debt").points == 0
    assert balance(book) == (0, 0, 0)


def test_partial_refunds_floor_what_is_clawed_so_far() -> None:
    book = Book(MEMBER, AT)
    book.credit(credit("a", 10))
    found = [
        book.claw(refund("a", net, number=net), "debt").from_pending for net in (150, 151, 699)
    ]
    assert found == [1, 2, 7]


def test_active_from_keeps_the_wall_clock_over_the_change_of_clocks() -> None:
    sold = datetime(2026, 3, 20, 9, tzinfo=UTC)  # 10:00 in winter time
    assert active_after(sold, PROGRAMME) == datetime(2026, 4, 3, 8, tzinfo=UTC)


def test_active_from_in_the_gap_moves_forward() -> None:
    sold = datetime(2026, 3, 15, 1, 30, tzinfo=UTC)  # 02:30; two weeks on there is none
    assert active_after(sold, PROGRAMME) == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("active_from", "months", "expected"),
    [
        (datetime(2026, 3, 16, 9, tzinfo=UTC), 12, datetime(2027, 3, 16, 23, tzinfo=UTC)),
        (datetime(2026, 1, 30, 23, tzinfo=UTC), 1, datetime(2026, 2, 27, 23, tzinfo=UTC)),
        (datetime(2027, 12, 30, 12, tzinfo=UTC), 2, datetime(2028, 2, 29, 23, tzinfo=UTC)),
    ],
)
def test_expiry_is_the_first_local_midnight_after_a_whole_period(
    active_from: datetime, months: int, expected: datetime
) -> None:
    assert expiry_of(active_from, replace(PROGRAMME, expiry_months=months)) == expected
    assert expiry_of(active_from, PROGRAMME) is None


def test_version_in_force_is_the_one_of_the_purchases_time() -> None:
    second = replace(PROGRAMME, version=2, valid_from=AT)
    third = replace(PROGRAMME, version=3, valid_from=AT)
    versions = [PROGRAMME, second, third]
    assert in_force(versions, datetime(2026, 3, 2, 8, 59, tzinfo=UTC)).version == 1
    assert in_force(versions, AT).version == 3
    assert in_force(versions, datetime(1800, 1, 1, tzinfo=UTC)).version == 1


def test_claw_takes_own_lot_then_earliest_expiry_never_other_pending_then_debt() -> None:
    book = Book(MEMBER, AT)
    book.credit_active(credit("own", 50))
    spend(book, 30)
    book.credit_active(credit("late", 8, expires_at=datetime(2027, 1, 1, tzinfo=UTC)))
    book.credit_active(credit("soon", 5, expires_at=datetime(2026, 6, 1, tzinfo=UTC)))
    book.credit(credit("pending", 100))
    reversal = book.claw(refund("own", 3200), "debt")
    assert (reversal.from_active, reversal.to_debt) == (32, 0)
    assert [lot.remaining for lot in book.lots] == [0, 1, 0, 100]
    reversal = book.claw(refund("own", 1800, number=1), "debt")
    assert (reversal.from_active, reversal.to_debt) == (1, 17)
    assert balance(book) == (100, 0, 17)


def test_shortfall_can_be_absorbed() -> None:
    book = Book(MEMBER, AT)
    book.credit_active(credit("a", 10))
    spend(book, 7)
    reversal = book.claw(refund("a", 1000), "absorb")
    assert (reversal.from_active, reversal.to_debt) == (3, 0)
    assert balance(book) == (0, 0, 0)


def test_debt_is_repaid_by_the_next_points_that_become_active() -> None:
    book = Book(MEMBER, AT, debt=30)
    pending = credit("a", 10, 15)
    book.credit(pending)
    assert balance(book) == (25, 0, 30)
    assert book.activate(pending.purchase_id, MEMBER) == Activation(25, 25)
    assert book.activate(pending.purchase_id, MEMBER) == Activation(0, 0)
    assert balance(book) == (0, 0, 5)
    assert book.credit_active(credit("b", 20)) == Activation(20, 5)
    assert balance(book) == (0, 15, 0)


def test_points_become_active_once() -> None:
    book = Book(MEMBER, AT)
    book.credit(credit("a", 10))
    sale = derived_id("purchase", "a")
    assert book.activate(sale, MEMBER) == Activation(10, 0)
    assert book.activate(sale, MEMBER) == Activation(0, 0)
    assert [len(journal.lines) for journal in book.journals if journal.leg == "activate"] == [2, 0]


def test_refund_of_expired_points_takes_nothing_else() -> None:
    over = datetime(2026, 6, 1, tzinfo=UTC)
    book = Book(MEMBER, AT)
    book.credit_active(credit("a", 10, expires_at=over))
    book.credit_active(credit("b", 10))
    book.now = over
    assert book.expire(derived_id("purchase", "a"), MEMBER) == 10
    assert book.claw(refund("a", 1000), "debt").points == 0
    assert balance(book) == (0, 10, 0)


def test_points_expire_at_their_first_invalid_instant_and_not_before() -> None:
    over = datetime(2026, 6, 1, tzinfo=UTC)
    book = Book(MEMBER, AT)
    book.credit_active(credit("a", 10, expires_at=over))
    book.now = datetime(2026, 5, 31, 23, 59, 59, tzinfo=UTC)
    assert book.expire(derived_id("purchase", "a"), MEMBER) == 0
    book.now = over
    assert book.expire(derived_id("purchase", "a"), MEMBER) == 10


def test_journals_of_every_rule_sum_to_zero() -> None:
    book, other = Book(MEMBER, AT, debt=3), Book(derived_id("other"), AT, debt=4)
    book.credit_active(credit("a", 10, 5, expires_at=AT))
    other.credit(credit("b", 20))
    other.credit_active(credit("c", 30))
    book.expire(derived_id("purchase", "a"), MEMBER)
    book.claw(refund("a", 1000, 500), "debt")
    book.join(other, MEMBER)
    for journal in [*book.journals, *other.journals]:
        assert sum(entry.points for entry in journal.lines) == 0
    assert balance(book) == (20, 23, 0)  # what was repaid from the refunded points is owed again
    assert balance(other) == (0, 0, 0)
