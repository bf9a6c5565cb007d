from datetime import UTC, date, datetime
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contacts.domain import anniversary, timeline
from contacts.domain.anniversary import PastPurchase
from contacts.domain.contact import Contact, check_zone
from contacts.domain.purchase import RefundWish, Remainder, check_time, digest_of
from contacts.domain.refusal import RefusedError
from rapport.contracts import inbound
from rapport.contracts.contacts import RefundedLine

PRAGUE = ZoneInfo("Europe/Prague")
SOMEBODY, SOMEBODY_ELSE = UUID(int=1), UUID(int=2)
THEN = datetime(1997, 1, 1, 11, tzinfo=UTC)


@pytest.mark.parametrize(
    ("purchased_on", "year", "expected"),
    [
        (date(2024, 2, 29), 2025, date(2025, 2, 28)),
        (date(2024, 2, 29), 2028, date(2028, 2, 29)),
        (date(2023, 2, 28), 2028, date(2028, 2, 28)),
        (date(1997, 12, 31), 1998, date(1998, 12, 31)),
    ],
)
def test_leap_day_is_kept_on_the_28th_in_common_years(
    purchased_on: date, year: int, expected: date
) -> None:
    assert anniversary.observed(purchased_on, year) == expected


def test_due_at_nine_in_the_zone() -> None:
    assert anniversary.due_at(date(2026, 1, 5), PRAGUE) == datetime(2026, 1, 5, 8, tzinfo=UTC)
    assert anniversary.due_at(date(2026, 7, 5), PRAGUE) == datetime(2026, 7, 5, 7, tzinfo=UTC)
    auckland = ZoneInfo("Pacific/Auckland")
    assert anniversary.due_at(date(2026, 3, 15), auckland) == datetime(2026, 3, 14, 20, tzinfo=UTC)


def test_a_gap_of_the_clock_moves_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anniversary, "AT", datetime(2026, 1, 1, 2, 30, tzinfo=UTC).time())
    due = anniversary.due_at(date(2026, 3, 29), PRAGUE)
    assert due.astimezone(PRAGUE).strftime("%H:%M") == "03:30"


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (datetime(1997, 3, 2, 8, 0, tzinfo=UTC), date(1998, 3, 2)),
        (datetime(1998, 3, 2, 7, 59, tzinfo=UTC), date(1998, 3, 2)),
        (datetime(1998, 3, 2, 8, 0, tzinfo=UTC), date(1999, 3, 2)),
        (datetime(1990, 1, 1, tzinfo=UTC), date(1998, 3, 2)),
    ],
)
def test_next_day_is_the_first_that_is_due_later(after: datetime, expected: date) -> None:
    assert anniversary.next_day(date(1997, 3, 2), after, PRAGUE) == expected


@given(
    st.dates(date(1900, 1, 1), date(2100, 12, 31)),
    st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)),  # noqa: DTZ001  given a zone below
    st.sampled_from(["Europe/Prague", "Pacific/Auckland", "America/St_Johns"]),
)
def test_next_day_is_later_than_now_and_the_year_before_it_was_not(
    purchased_on: date, now: datetime, name: str
) -> None:
    zone, now = ZoneInfo(name), now.replace(tzinfo=UTC)
    day = anniversary.next_day(purchased_on, now, zone)
    assert anniversary.due_at(day, zone) > now
    assert day.year > purchased_on.year
    before = anniversary.observed(purchased_on, day.year - 1)
    assert before.year == purchased_on.year or anniversary.due_at(before, zone) <= now


def past(n: int, at: datetime, *, kept: bool = True) -> PastPurchase:
    return PastPurchase(id=UUID(int=n), order=f"o{n}", occurred_at=at, kept=kept)


def test_celebrated_are_kept_purchases_of_the_same_local_day_in_earlier_years() -> None:
    eve = past(1, datetime(2023, 2, 27, 23, 30, tzinfo=UTC))  # the 28th in Prague
    leap = past(2, datetime(2024, 2, 29, 12, tzinfo=UTC))
    refunded = past(3, datetime(2024, 2, 28, 12, tzinfo=UTC), kept=False)
    today = past(4, datetime(2025, 2, 28, 12, tzinfo=UTC))
    other = past(5, datetime(2024, 3, 1, 12, tzinfo=UTC))
    everything = [other, today, refunded, leap, eve]
    found = anniversary.celebrated(everything, date(2025, 2, 28), PRAGUE)
    assert found == [(eve, date(2023, 2, 28)), (leap, date(2024, 2, 29))]
    assert anniversary.first_kept(everything) is eve
    assert anniversary.first_kept([refunded]) is None


def remainder(**left: int) -> Remainder:
    return Remainder(
        id=UUID(int=9),
        contact_id=SOMEBODY,
        currency="USD",
        digest=b"",
        event_id=UUID(int=8),
        left=left,
    )


def wish(*lines: tuple[str, int], contact_id: UUID = SOMEBODY, currency: str = "USD") -> RefundWish:
    return RefundWish(
        id=UUID(int=7),
        purchase_id=UUID(int=9),
        contact_id=contact_id,
        source="till",
        external_id="1",
        order="o",
        occurred_at=THEN,
        currency=currency,
        lines=lines or None,
        trace=None,
    )


def test_a_refund_without_lines_takes_all_that_is_left_and_then_nothing() -> None:
    bought = remainder(a=100, b=0, c=50)
    bought.take(wish(("a", 30)))
    assert bought.take(wish()) == (
        RefundedLine(line="a", net_minor=70),
        RefundedLine(line="c", net_minor=50),
    )
    assert bought.take(wish()) == ()


def test_a_free_purchase_is_refunded_once_with_lines_of_nothing() -> None:
    bought = remainder(a=0, b=0)
    assert [line.net_minor for line in bought.take(wish())] == [0, 0]
    assert bought.take(wish()) == ()
    assert remainder(a=0, b=0).take(wish(("b", 0))) == (RefundedLine(line="b", net_minor=0),)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (wish(("a", 60), ("a", 41)), "lines[1].net_minor"),
        (wish(("a", 1), ("x", 1)), "lines[1].line"),
        (wish(contact_id=SOMEBODY_ELSE), "customer"),
        (wish(currency="EUR"), "currency"),
    ],
)
def test_a_refused_refund_names_the_field_and_takes_nothing(asked: RefundWish, field: str) -> None:
    bought = remainder(a=100)
    with pytest.raises(RefusedError, match=r".+: is ") as refused:
        bought.take(asked)
    assert refused.value.field == field
    assert bought.left == {"a": 100}


def sold(at: str, **other: object) -> inbound.PurchaseRecorded:
    line = {"sku": "cd", "quantity": 1, "net_minor": 5}
    values = {"customer": "1", "order": "o", "occurred_at": at, "currency": "USD", "lines": [line]}
    return inbound.PurchaseRecorded.model_validate(values | other)


def test_the_digest_is_about_content_not_spelling() -> None:
    first = digest_of(sold("1997-01-01T12:00:00+01:00"))
    assert first == digest_of(sold("1997-01-01T11:00:00Z", order="another name"))
    assert first != digest_of(sold("1997-01-01T11:00:01Z"))
    assert first != digest_of(sold("1997-01-01T11:00:00Z", customer="2"))
    assert first != digest_of(sold("1997-01-01T11:00:00Z", shipping_minor=1))


def test_years_out_of_the_calendar_are_refused() -> None:
    with pytest.raises(RefusedError) as refused:
        check_time(datetime(1, 1, 1, tzinfo=UTC))
    assert refused.value.field == "occurred_at"
    check_time(THEN)


def test_a_record_changes_its_version_only_with_its_content() -> None:
    contact = Contact(id=SOMEBODY, registered_at=THEN, provisional=True, email="a@x.example")
    same, nothing = contact.revised({"email": "a@x.example"})
    assert (same.version, nothing) == (1, ())
    full, changed = contact.revised({"email": "b@x.example", "phone": "1"}, completes=True)
    assert (full.version, full.provisional) == (2, False)
    assert set(changed) == {"email", "phone", "provisional"}


def test_unknown_zones_are_refused() -> None:
    check_zone("Europe/Prague")
    check_zone(None)
    for name in ("Europe/Brno", "../etc/passwd", ""):
        with pytest.raises(RefusedError):
            check_zone(name)


def test_the_timeline_holds_no_personal_data() -> None:
    contact = Contact(
        id=SOMEBODY,
        registered_at=THEN,
        given_name="Ada",
        email="ada@x.example",
        birth_date=date(1980, 3, 15),
        references=(("shop", "77"),),
    )
    details = timeline.details_of(contact.updated(("email",)))
    assert '"changed":["email"]' in details
    for secret in ("Ada", "ada@", "1980", "77"):
        assert secret not in details
