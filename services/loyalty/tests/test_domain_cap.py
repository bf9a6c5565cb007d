"""The cap on a local day, without a database."""

from dataclasses import replace
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalty.domain.book import Book
from loyalty.domain.cap import claw_capped, count_in, divide, make_room
from loyalty.domain.earning import Credit, credit_for, local_day
from loyalty.domain.records import CappedLine
from rapport.messaging.ids import derived_id
from services.loyalty.tests.ledger_world import purchase
from services.loyalty.tests.test_domain import AT, MEMBER, PROGRAMME, credit, refund

DAY = date(2026, 3, 2)


def capped(name: str, *points: int, cap: int = 10, at: datetime = AT) -> Credit:
    return replace(credit(name, *points), cap=cap, day=DAY, occurred_at=at)


def earn(book: Book, *credits_: Credit) -> list[int]:
    """Credit purchases; return what the cap left of each when it came."""
    granted = []
    for one in credits_:
        found = count_in(book, one)
        book.credit_active(found)
        make_room(book, DAY, one.event_id, "debt")
        granted.append(found.points)
    return granted


def worth(book: Book) -> list[int]:
    return [lot.points - lot.clawed for lot in book.lots]


def line(number: int, points: int, *, minute: int = 0, cap: int = 10) -> CappedLine:
    return CappedLine(
        contact_id=MEMBER,
        day=DAY,
        purchase_id=derived_id("purchase", minute),
        number=number,
        line=str(number),
        occurred_at=AT + timedelta(minutes=minute),
        cap=cap,
        net_minor=100 * points,
        points=points,
        active_from=AT,
        expires_at=None,
    )


def test_day_is_the_local_one_of_the_programmes_zone() -> None:
    assert local_day(datetime.fromisoformat("2026-03-01T23:30:00Z"), PROGRAMME) == DAY
    assert local_day(datetime.fromisoformat("2026-03-02T23:00:00Z"), PROGRAMME) > DAY


def test_without_a_cap_a_purchase_has_no_day() -> None:
    event = purchase("a", 1, AT, 1000).event
    assert credit_for(event, MEMBER, MEMBER, [PROGRAMME]).day is None
    limited = credit_for(event, MEMBER, MEMBER, [replace(PROGRAMME, daily_cap=3)])
    assert (limited.day, limited.cap, limited.points) == (DAY, 3, 10)


def test_lines_are_served_by_time_then_purchase_then_number() -> None:
    lines = [line(1, 4, minute=5), line(0, 4, minute=5), line(0, 5)]
    assert [(found.number, points) for found, points in divide(lines)] == [(0, 5), (0, 4), (1, 1)]
    same = [replace(line(0, 8), purchase_id=derived_id("purchase", n)) for n in range(9)]
    first = min(found.purchase_id.bytes for found in same)
    assert [p.purchase_id.bytes for p, points in divide(same) if points == 8] == [first]


lines = st.lists(
    st.builds(line, st.integers(0, 3), st.integers(1, 20), minute=st.integers(0, 5)), max_size=8
)


@given(lines, st.integers(1, 40))
def test_a_day_grants_what_is_left_up_to_its_cap(drawn: list[CappedLine], cap: int) -> None:
    for found in drawn:
        found.cap = cap
    assert sum(points for _, points in divide(drawn)) == min(cap, sum(one.left for one in drawn))


@given(lines, st.integers(0, 7), st.integers(0, 2000))
def test_a_refund_never_lowers_another_line(
    drawn: list[CappedLine], number: int, net_minor: int
) -> None:
    """The handlers lean on it: purchases only take from others, refunds only give to them."""
    before = dict(divide(drawn))
    if number < len(drawn):
        drawn[number].refund(net_minor)
    after = dict(divide(drawn))
    assert all(after[one] >= before[one] for n, one in enumerate(drawn) if n != number)


@given(st.permutations([capped("a", 6), capped("b", 3, 3), capped("c", 5)]))
def test_any_order_of_a_days_purchases_leaves_each_the_same(order: list[Credit]) -> None:
    order = [replace(c, occurred_at=AT + timedelta(minutes=c.points)) for c in order]
    book = Book(MEMBER, AT)
    earn(book, *order)
    left: dict[str, int] = {}
    for lot in book.lots:
        name = next(n for n in "abc" if derived_id("purchase", n) == lot.purchase_id)
        left[name] = left.get(name, 0) + lot.points - lot.clawed
    tie = sorted("ab", key=lambda name: derived_id("purchase", name).bytes)
    assert {name: left.get(name, 0) for name in "abc"} == {"c": 5, tie[0]: 5, tie[1]: 0}
    assert book.balance().active == 10


def test_earlier_purchase_that_comes_late_takes_the_room() -> None:
    book = Book(MEMBER, AT)
    later, earlier = capped("later", 8, at=AT + timedelta(hours=1)), capped("earlier", 7)
    assert earn(book, later, earlier) == [8, 7]
    assert worth(book) == [3, 7]
    assert book.balance().active == 10


def test_spent_points_that_lose_their_room_are_taken_elsewhere() -> None:
    """An accepted spend is never revisited."""
    book = Book(MEMBER, AT)
    earn(book, capped("later", 8, at=AT + timedelta(hours=1)))
    book.lots[0].take(8)
    earn(book, capped("earlier", 7))
    assert (book.balance().active, book.balance().debt) == (2, 0)


def test_refund_gives_its_room_to_the_rest_of_the_day() -> None:
    book = Book(MEMBER, AT)
    assert earn(book, capped("a", 8), capped("b", 7, at=AT + timedelta(hours=1))) == [8, 2]
    corrections, reversal = claw_capped(book, refund("a", 400), "debt")
    assert [(c.points, c.active) for c in corrections] == [(4, 4)]
    assert reversal.from_active == 4
    assert worth(book) == [4, 6]
    corrections, reversal = claw_capped(book, refund("b", 100, number=1), "debt")
    assert (corrections, reversal.points) == ([], 0)  # six of seven were within the cap anyway


def test_refund_beyond_the_cap_takes_nothing() -> None:
    book = Book(MEMBER, AT)
    assert earn(book, capped("a", 30)) == [10]
    assert claw_capped(book, refund("a", 2000), "debt")[1].points == 0
    assert claw_capped(book, refund("a", 1000, number=1), "debt")[1].points == 10


@pytest.mark.parametrize("days", [0, 1])
def test_freed_room_for_a_lot_past_its_expiry_lapses_at_once(days: int) -> None:
    book = Book(MEMBER, AT)
    over = replace(capped("b", 7, at=AT + timedelta(hours=1)), expires_at=AT + timedelta(days=1))
    earn(book, capped("a", 8), over)
    book.now = AT + timedelta(days=days)
    [correction], _ = claw_capped(book, refund("a", 800), "debt")
    assert (correction.points, correction.lapsed) == (5, 7 if days else 0)
    assert book.balance().active == (0 if days else 7)
    assert all(sum(entry.points for entry in j.lines) == 0 for j in book.journals)
