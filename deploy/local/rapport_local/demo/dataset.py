"""The purchases of CDNOW as external events, and what the demo makes up for them.

The file names customers by number and nothing else, so their names and addresses are made up; so
are the refunds.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from rapport_local.settings import CHECKOUT

FILE = CHECKOUT / "examples" / "cdnow" / "cdnow-master.txt.gz"
SOURCE = "cdnow"
CURRENCY = "USD"
ZONE = ZoneInfo("Europe/Prague")
NOON = time(12)
REFUNDED_EVERY = 50
REFUNDED_AT_ONCE_EVERY = 500
REFUND_AFTER = timedelta(days=20)
REFUND_AT_ONCE_AFTER = timedelta(hours=1)
GIVEN_NAMES = ("Ada", "Bruno", "Clara", "David", "Emma", "Filip", "Greta", "Hugo", "Ida", "Jakub")
FAMILY_NAMES = ("Adams", "Benes", "Costa", "Dvorak", "Ender", "Fiala", "Gruber", "Horak", "Ivanova")


@dataclass(frozen=True)
class External:
    """One external event; `published_at` places it among the others, `at` is its own time."""

    id: str
    type: str
    customer: int
    at: datetime
    published_at: datetime
    data: dict[str, Any]


@dataclass(frozen=True)
class Purchase:
    """One row of the file: its number among all rows is the order's."""

    row: int
    customer: int
    on: date
    quantity: int
    net_minor: int

    @property
    def order(self) -> str:
        """The order's number."""
        return str(self.row)

    @cached_property
    def at(self) -> datetime:
        """Noon of its day; the file knows no times."""
        return datetime.combine(self.on, NOON, ZONE)

    def recorded(self) -> External:
        """Return the event of a till."""
        line = {"sku": "cd", "quantity": self.quantity, "net_minor": self.net_minor}
        data = {
            "customer": str(self.customer),
            "order": self.order,
            "occurred_at": self.at.isoformat(),
            "currency": CURRENCY,
            "lines": [line],
        }
        id_ = f"purchase-{self.row}"
        return External(id_, "purchase.recorded", self.customer, self.at, self.at, data)

    def refunded(self) -> External | None:
        """Return the refund that is made up for it, if one is: of everything."""
        if self.row % REFUNDED_EVERY:
            return None
        at_once = self.row % REFUNDED_AT_ONCE_EVERY == 0
        at = self.at + (REFUND_AT_ONCE_AFTER if at_once else REFUND_AFTER)
        data = {
            "customer": str(self.customer),
            "order": self.order,
            "occurred_at": at.isoformat(),
            "currency": CURRENCY,
        }
        published_at = self.at if at_once else at
        id_ = f"refund-{self.row}"
        return External(id_, "purchase.refunded", self.customer, at, published_at, data)


def read_purchases(path: Path = FILE, scale: int = 1) -> list[Purchase]:
    """Read the file, or the purchases of one customer in `scale`, one of each block of numbers."""
    with gzip.open(path, "rt", encoding="ascii") as lines:
        next(lines)  # the headings
        purchases = [_purchase(row, line) for row, line in enumerate(lines, 1)]
    return [purchase for purchase in purchases if is_chosen(purchase.customer, scale)]


def _purchase(row: int, line: str) -> Purchase:
    customer, on, quantity, dollars = line.split()
    whole, _, cents = dollars.partition(".")
    net_minor = int(whole) * 100 + int(f"{cents:0<2}")
    return Purchase(row, int(customer), date.fromisoformat(on), int(quantity), net_minor)


def is_chosen(customer: int, scale: int) -> bool:
    """Tell whether a scaled demo has this customer: another place in each block, odd and even."""
    block, place = divmod(customer - 1, scale)
    return place == block % scale


def registered(customer: int, at: datetime) -> External:
    """Return the registration of a customer; every second one agrees to marketing."""
    data: dict[str, Any] = {
        "customer": str(customer),
        "given_name": GIVEN_NAMES[customer % len(GIVEN_NAMES)],
        "family_name": FAMILY_NAMES[customer % len(FAMILY_NAMES)],
        "email": f"customer-{customer}@cdnow.example",
    }
    if customer % 2 == 0:
        data["consents"] = [{"purpose": "marketing", "channel": "email"}]
    return External(f"customer-{customer}", "contact.registered", customer, at, at, data)


def registrations(purchases: Sequence[Purchase], at: datetime) -> list[External]:
    """Return the registrations of everybody who buys, in the order of their numbers."""
    return [registered(customer, at) for customer in sorted({p.customer for p in purchases})]


def sales(purchases: Sequence[Purchase], *, refunds: bool = True) -> list[External]:
    """Return purchases and refunds in the order in which they are published.

    That is by date, then by row; a refund of the same hour comes before its purchase.
    """
    events = [(e.published_at, row, e.type, e) for row, e in _each(purchases, refunds=refunds)]
    # "purchase.refunded" sorts behind "purchase.recorded", hence the turned order of types.
    events.sort(key=lambda item: (item[0], item[1], item[2] == "purchase.recorded"))
    return [event for *_, event in events]


def _each(purchases: Sequence[Purchase], *, refunds: bool) -> Iterator[tuple[int, External]]:
    for purchase in purchases:
        yield purchase.row, purchase.recorded()
        refund = purchase.refunded() if refunds else None
        if refund:
            yield purchase.row, refund
