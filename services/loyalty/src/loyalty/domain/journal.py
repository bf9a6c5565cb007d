"""Double entry: journals made of moves, so that each sums to zero."""

from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from loyalty.domain.lot import Lot

Account = Literal["pending", "active", "held", "debt", "issued", "redeemed", "expired", "goodwill"]
MEMBER_ACCOUNTS: tuple[Account, ...] = ("pending", "active", "held", "debt")
Rule = Literal["purchase", "refund", "merge", "redemption", "cap"]
PurchaseLeg = Literal["issue", "activate", "repay", "expire", "claw", "join", "divide"]
RedemptionLeg = Literal["authorise", "capture", "release", "restore"]
Leg = PurchaseLeg | RedemptionLeg


@dataclass(slots=True, eq=False)
class Line:
    """One side of a move; `contact_id` is None on the programme's accounts."""

    account: Account
    contact_id: UUID | None
    lot: Lot | None
    points: int


@dataclass(slots=True, eq=False)
class Journal:
    """What one leg of one rule did because of one source event; that triple is its key.

    The debt account of a member stands below zero while points are owed.
    """

    contact_id: UUID
    source_event: UUID
    rule: Rule
    leg: Leg
    purchase_id: UUID | None
    lines: list[Line] = field(default_factory=list)

    def move(self, points: int, source: Account, target: Account, lot: Lot | None = None) -> None:
        """Take points from one account and put them on another; zero is not written."""
        if points:
            self._add(source, lot, -points)
            self._add(target, lot, points)

    def hand_over(self, points: int, account: Account, giver: UUID, lot: Lot | None = None) -> None:
        """Take points from another member's account and put them on the same one of this member."""
        if points:
            self.lines.append(Line(account, giver, lot, -points))
            self.lines.append(Line(account, self.contact_id, lot, points))

    def _add(self, account: Account, lot: Lot | None, points: int) -> None:
        owner = self.contact_id if account in MEMBER_ACCOUNTS else None
        self.lines.append(Line(account, owner, lot, points))
