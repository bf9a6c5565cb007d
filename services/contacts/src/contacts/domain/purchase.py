"""Purchases, what is left of them, and what a refund may take."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import TYPE_CHECKING

import orjson

from contacts.domain.refusal import RefusedError
from rapport.contracts.contacts import PurchaseLine, RefundedLine

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from rapport.contracts import inbound

FIRST_YEAR, LAST_YEAR = 1900, 2200


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """What was bought, as it was recorded; it never changes."""

    id: UUID
    contact_id: UUID
    source: str
    order: str
    occurred_at: datetime
    currency: str
    lines: tuple[PurchaseLine, ...]
    shipping_minor: int
    shop: str | None
    digest: bytes
    event_id: UUID

    @property
    def net_minor(self) -> int:
        """Sum of the lines, tax and shipping apart."""
        return sum(line.net_minor for line in self.lines)


@dataclass(slots=True, kw_only=True)
class Remainder:
    """What is left of a known purchase: net minus refunds, per line in the order of its lines.

    `refunded` tells whether a refund was granted before, be it of a purchase that cost nothing.
    """

    id: UUID
    contact_id: UUID
    currency: str
    digest: bytes
    event_id: UUID
    left: dict[str, int]
    refunded: bool = False

    @classmethod
    def whole(cls, purchase: Purchase) -> Remainder:
        """Return what is left of a purchase that was just made: everything."""
        return cls(
            id=purchase.id,
            contact_id=purchase.contact_id,
            currency=purchase.currency,
            digest=purchase.digest,
            event_id=purchase.event_id,
            left={line.line: line.net_minor for line in purchase.lines},
        )

    def take(self, wish: RefundWish) -> tuple[RefundedLine, ...]:
        """Take a refund off what is left; without lines, all of it. Nothing left: no lines.

        The first refund of a purchase that cost nothing is one all the same: its lines, of 0.
        Raises RefusedError, with nothing taken.
        """
        if wish.contact_id != self.contact_id:
            raise RefusedError("customer", "is not the customer of the purchase")
        if wish.currency != self.currency:
            raise RefusedError("currency", "is not the currency of the purchase")
        taken = dict(self.left) if wish.lines is None else self._checked(wish.lines)
        if self.refunded or any(self.left.values()):
            taken = {line: net for line, net in taken.items() if net}
        self.refunded = self.refunded or bool(taken)
        for line, net in taken.items():
            self.left[line] -= net
        return tuple(RefundedLine(line=line, net_minor=net) for line, net in taken.items())

    def _checked(self, lines: Sequence[tuple[str, int]]) -> dict[str, int]:
        taken: Counter[str] = Counter()
        for place, (line, net) in enumerate(lines):
            if line not in self.left:
                raise RefusedError(f"lines[{place}].line", "is no line of the purchase")
            taken[line] += net
            if taken[line] > self.left[line]:
                raise RefusedError(f"lines[{place}].net_minor", "is more than what is left")
        return taken


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundWish:
    """A refund as it was asked for; `lines` None means all that is left."""

    id: UUID
    purchase_id: UUID
    contact_id: UUID
    source: str
    external_id: str
    order: str
    occurred_at: datetime
    currency: str
    lines: tuple[tuple[str, int], ...] | None
    trace: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """A refund that was granted."""

    wish: RefundWish
    lines: tuple[RefundedLine, ...]
    event_id: UUID


def check_time(occurred_at: datetime) -> None:
    """Refuse years in which no calendar of ours can be trusted."""
    if not FIRST_YEAR <= occurred_at.year <= LAST_YEAR:
        raise RefusedError("occurred_at", f"must lie between {FIRST_YEAR} and {LAST_YEAR}")


def lines_of(sold: inbound.PurchaseRecorded) -> tuple[PurchaseLine, ...]:
    """Return the lines of an external purchase as ours."""
    return tuple(
        PurchaseLine(
            line=line.line,
            sku=line.sku,
            quantity=line.quantity,
            net_minor=line.net_minor,
            tax_minor=line.tax_minor,
            category=line.category,
            excluded=line.excluded,
        )
        for line in sold.lines
    )


def digest_of(sold: inbound.PurchaseRecorded) -> bytes:
    """BLAKE2b of the content: the same order with the same digest is the same purchase."""
    lines = [
        (x.line, x.sku, x.quantity, x.net_minor, x.tax_minor, x.category, x.excluded)
        for x in sold.lines
    ]
    at = sold.occurred_at.astimezone(UTC)
    content = (sold.customer, at, sold.currency, lines, sold.shipping_minor, sold.shop)
    return blake2b(orjson.dumps(content), digest_size=16).digest()
