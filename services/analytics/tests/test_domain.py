"""Pure rules: profiles, segments, money."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.domain.money import (
    CurrencyDiffersError,
    Rate,
    Sale,
    UnknownRateError,
    convert,
    rate_on,
)
from analytics.domain.profile import Profile
from analytics.domain.segment import Condition, Segment, cross, join

WHO, OTHER = UUID(int=1), UUID(int=2)
DAY = date(1997, 1, 1)
VALUED = Segment("valued", 1, (Condition("monetary_minor", at_least=10_000),))


def after(days: int) -> date:
    return DAY + timedelta(days=days)


def test_two_purchases_of_a_day_are_one_purchase_day() -> None:
    profile = Profile(WHO)
    profile.record(DAY, 100, kept=True)
    profile.record(DAY, 200, kept=True)
    assert (profile.kept_purchases, profile.purchase_days, profile.monetary_minor) == (2, 1, 300)


def test_a_free_purchase_counts_no_day() -> None:
    profile = Profile(WHO)
    profile.record(DAY, 0, kept=False)
    assert profile == Profile(WHO)


def test_undoing_the_last_day_moves_it_back() -> None:
    profile = Profile(WHO)
    profile.record(after(0), 100, kept=True)
    profile.record(after(9), 100, kept=True)
    profile.give_back(after(9), 100, undone=True)
    assert (profile.first_kept_on, profile.last_kept_on) == (DAY, DAY)
    profile.give_back(after(0), 100, undone=True)
    assert (profile.first_kept_on, profile.last_kept_on, profile.purchase_days) == (None, None, 0)


def test_a_partial_refund_leaves_the_purchase_kept() -> None:
    profile = Profile(WHO)
    profile.record(DAY, 100, kept=True)
    profile.give_back(DAY, 99, undone=False)
    assert (profile.kept_purchases, profile.monetary_minor) == (1, 1)


purchases = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 500), st.booleans()), max_size=12)


@given(purchases, purchases)
def test_joining_two_profiles_is_as_if_one_had_bought_everything(
    ours: list[tuple[int, int, bool]], theirs: list[tuple[int, int, bool]]
) -> None:
    def of(who: UUID, bought: list[tuple[int, int, bool]]) -> Profile:
        profile = Profile(who)
        for day, amount, undone in bought:
            profile.record(after(day), amount, kept=amount > 0)
            if undone and amount:
                profile.give_back(after(day), amount, undone=True)
        return profile

    joined = of(WHO, ours)
    joined.join(of(OTHER, theirs))
    assert joined == of(WHO, ours + theirs)


def test_a_border_is_crossed_once_each_way() -> None:
    profile, memberships = Profile(WHO, monetary_minor=10_000), set[str]()
    assert [s.direction for s in cross(profile, memberships, [VALUED])] == ["entered"]
    assert cross(profile, memberships, [VALUED]) == []
    profile.monetary_minor = 9_999
    assert [s.direction for s in cross(profile, memberships, [VALUED])] == ["exited"]
    assert memberships == set()


def test_only_double_memberships_are_joined() -> None:
    memberships: set[str] = set()
    assert join(memberships, {"valued"}, [VALUED]) == []
    assert memberships == {"valued"}
    assert [s.direction for s in join(memberships, {"valued"}, [VALUED])] == ["joined"]


def test_bounds_are_included() -> None:
    condition = Condition("kept_purchases", at_least=1, at_most=2)
    held = [condition.holds(Profile(WHO, kept_purchases=n)) for n in range(4)]
    assert held == [False, True, True, False]


def test_conversion_rounds_half_to_even() -> None:
    assert [convert(n, Decimal("0.5")) for n in (1, 3, 5)] == [0, 2, 2]


def test_the_last_rate_before_the_day_counts_and_a_missing_one_is_not_zero() -> None:
    rates = [Rate("EUR", after(0), Decimal(2)), Rate("EUR", after(10), Decimal(3))]
    assert [rate_on(rates, "EUR", after(n)) for n in (0, 9, 10, 99)] == [2, 2, 3, 3]
    with pytest.raises(UnknownRateError, match="CHF on 1997-01-01"):
        rate_on(rates, "CHF", DAY)
    with pytest.raises(UnknownRateError):
        rate_on(rates, "EUR", DAY - timedelta(days=1))


@given(st.integers(1, 10**9), st.integers(0, 10**9), st.lists(st.integers(1, 10**9), max_size=6))
def test_purchase_and_full_refund_net_to_zero_at_any_rate(
    original: int, amount: int, parts: list[int]
) -> None:
    sale = Sale(original, amount, "EUR")
    given_back = 0
    for part in parts:
        portion = min(part, sale.original_minor - sale.refunded_original_minor)
        given_back += sale.give_back(portion, "EUR")
        assert 0 <= given_back <= amount
    given_back += sale.give_back(sale.original_minor - sale.refunded_original_minor, "EUR")
    assert given_back == amount
    assert not sale.kept


def test_a_refund_in_another_currency_is_an_error() -> None:
    with pytest.raises(CurrencyDiffersError, match="CZK"):
        Sale(100, 100, "EUR").give_back(1, "CZK")
