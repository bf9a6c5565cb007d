"""Amounts in the reporting currency: whole minor units, never float."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction


class UnknownRateError(Exception):
    """No exchange rate is known for a currency on a day: the amount is unknown, never 0."""


class CurrencyDiffersError(Exception):
    """A refund names another currency than its purchase."""


@dataclass(frozen=True, slots=True)
class Reporting:
    """How figures are reported: days begin and end in `zone`, money is in `currency`."""

    zone: str
    currency: str


@dataclass(frozen=True, slots=True)
class Rate:
    """Minor units of the reporting currency for one minor unit of `currency`, from a day on."""

    currency: str
    valid_from: date
    rate: Decimal


def convert(amount_minor: int, rate: Decimal) -> int:
    """Convert and round half to even."""
    return int((amount_minor * rate).quantize(Decimal(1), ROUND_HALF_EVEN))


def rate_on(rates: list[Rate], currency: str, day: date) -> Decimal:
    """Return the last rate that was valid on the day; raises UnknownRateError."""
    valid = [r for r in rates if r.currency == currency and r.valid_from <= day]
    if not valid:
        raise UnknownRateError(f"currency: no exchange rate of {currency} on {day}")
    return max(valid, key=lambda r: r.valid_from).rate


@dataclass(slots=True)
class Sale:
    """What was paid for a purchase, as paid and as reported, and given back of it so far."""

    original_minor: int
    amount_minor: int
    currency: str
    refunded_original_minor: int = 0
    refunded_minor: int = 0

    @property
    def kept(self) -> bool:
        """Something is left of it."""
        return self.original_minor > self.refunded_original_minor

    def give_back(self, original_minor: int, currency: str) -> int:
        """Note a refund and return it in the reporting currency, at the purchase's own rate.

        Rounded on the sum of all refunds so far, so that purchase and full refund net to zero.
        """
        if currency != self.currency:
            raise CurrencyDiffersError(f"currency: {currency}, the purchase was in {self.currency}")
        self.refunded_original_minor += original_minor
        before = self.refunded_minor
        if self.original_minor:
            share = Fraction(self.refunded_original_minor, self.original_minor)
            self.refunded_minor = round(self.amount_minor * share)
        return self.refunded_minor - before
