"""What a message is: its rule, its identifiers, and what its template may say."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from rapport.messaging.ids import derived_id

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date
    from uuid import UUID

    from rapport.contracts.contacts import PurchaseRecorded

EMAIL = "email"
MAIL_DOMAIN = "rapport.example"
MINOR_DIGITS = {"CLP": 0, "ISK": 0, "JPY": 0, "KRW": 0, "VND": 0, "BHD": 3, "JOD": 3, "KWD": 3}

Variables = dict[str, str | int]


@dataclass(frozen=True, slots=True)
class Rule:
    """A reason to write: its code is part of the dedupe key for ever, without a version."""

    code: str
    category: str
    template: str


THANK_YOU = Rule("thank-you", "thank-you", "thank-you")
ANNIVERSARY = Rule("anniversary", "anniversary", "anniversary")


def message_id(rule: Rule, about_id: UUID, occasion: str, contact_id: UUID) -> UUID:
    """Return the id of the message that the rule writes about a thing on one occasion."""
    return derived_id("message", rule.code, about_id, occasion, contact_id, EMAIL)


def internet_message_id(message_id: UUID) -> str:
    """Return the `Message-ID` header, by which the provider can be asked."""
    return f"<{message_id}@{MAIL_DOMAIN}>"


def net_minor(purchase: PurchaseRecorded) -> int:
    """Return what was paid for goods, without tax and shipping, in minor units."""
    return sum(line.net_minor for line in purchase.lines)


def purchase_variables(purchase: PurchaseRecorded, zone: str) -> Variables:
    """Return what a thank-you may say about the purchase."""
    return {
        "order": purchase.order,
        "purchased_on": purchase.occurred_at.astimezone(ZoneInfo(zone)).date().isoformat(),
        "amount": amount(net_minor(purchase), purchase.currency),
        "currency": purchase.currency,
    }


def anniversary_variables(purchased_on: date, local_date: date) -> Variables:
    """Return what anniversary thanks may say about the purchase."""
    years = local_date.year - purchased_on.year
    return {"purchased_on": purchased_on.isoformat(), "years": years}


def amount(minor: int, currency: str) -> str:
    """Write an amount with as many decimals as the currency has (ISO 4217)."""
    digits = MINOR_DIGITS.get(currency, 2)
    return f"{Decimal(minor).scaleb(-digits):.{digits}f}"


def all_variables(
    variables: Mapping[str, str | int], given_name: str | None, unsubscribe_url: str
) -> Variables:
    """Return what a template may use: the rule's variables, and those that every rule has."""
    return {**variables, "given_name": given_name or "", "unsubscribe_url": unsubscribe_url}
