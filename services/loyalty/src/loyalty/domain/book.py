"""A member's book: lots and debt, and what purchases, time, refunds and merges do to them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

from loyalty.domain.earning import Credit
from loyalty.domain.journal import Account, Journal, Leg, Rule
from loyalty.domain.lot import Lot, spending_order
from loyalty.domain.programme import Shortfall
from rapport.contracts.contacts import RefundedLine


@dataclass(frozen=True, slots=True)
class Refund:
    """A refund as the ledger sees it; it may have waited for its purchase."""

    refund_id: UUID
    purchase_id: UUID
    contact_id: UUID
    event_id: UUID
    occurred_at: datetime
    lines: tuple[RefundedLine, ...]


@dataclass(frozen=True, slots=True)
class Activation:
    """Points that became active; `repaid` of them settled a debt."""

    points: int
    repaid: int


@dataclass(slots=True)
class Reversal:
    """Where a claw found its points."""

    from_pending: int = 0
    from_active: int = 0
    to_debt: int = 0

    @property
    def points(self) -> int:
        """All that was taken back."""
        return self.from_pending + self.from_active + self.to_debt


@dataclass(slots=True)
class Book:
    """State of one member, loaded under the member's lock, with the journals to be written.

    Expects lots in the order of their ids; new ones are appended.
    """

    contact_id: UUID
    lots: list[Lot] = field(default_factory=list)
    debt: int = 0
    debt_changed: bool = False
    journals: list[Journal] = field(default_factory=list)

    def credit(self, credit: Credit) -> None:
        """Issue a purchase's points as pending lots, one per line that earned any."""
        self._issue(credit, "pending")

    def credit_active(self, credit: Credit) -> Activation:
        """Issue a purchase's points as active ones: its return window is over."""
        lots = self._issue(credit, "active")
        return Activation(credit.points, self._repay(lots, credit.event_id, credit.purchase_id))

    def activate(self, purchase_id: UUID, source: UUID) -> Activation:
        """Make a purchase's pending points active, and repay what is owed before all else."""
        journal = self._journal(source, "purchase", "activate", purchase_id)
        woken = [lot for lot in self._own(purchase_id) if not lot.active]
        for lot in woken:
            lot.active = lot.changed = True
            journal.move(lot.remaining, "pending", "active", lot)
        points = sum(lot.remaining for lot in woken)
        return Activation(points, self._repay(woken, source, purchase_id))

    def expire(self, purchase_id: UUID, source: UUID, now: datetime) -> int:
        """Let a purchase's active points lapse that are past their expiry; return how many."""
        journal = self._journal(source, "purchase", "expire", purchase_id)
        lapsed = 0
        for lot in self._own(purchase_id):
            if lot.active and lot.due(now):
                points = lot.lapse()
                journal.move(points, "active", "expired", lot)
                lapsed += points
        return lapsed

    def claw(self, refund: Refund, shortfall: Shortfall) -> Reversal:
        """Take back what the refunded lines had earned.

        From the own lot first, expired points included; then from the order's other active lots,
        then from other orders' by earliest expiry, never from another order's pending ones. What
        is missing is owed, or absorbed.
        """
        journal = self._journal(refund.event_id, "refund", "claw", refund.purchase_id)
        reversal = Reversal()
        own = self._own(refund.purchase_id)
        by_line = {lot.line: lot for lot in own}
        missing = 0
        for line in refund.lines:
            lot = by_line.get(line.line)
            if lot is not None:
                claimed = lot.refund(line.net_minor)
                claimed -= self._take(lot, claimed, journal, reversal)
                revived = lot.revive(claimed)
                journal.move(revived, "expired", "issued", lot)
                missing += claimed - revived
        others = [lot for lot in self.lots if lot.purchase_id != refund.purchase_id]
        for lot in [*own, *sorted(others, key=spending_order)]:
            if missing and lot.active:
                missing -= self._take(lot, missing, journal, reversal)
        if missing and shortfall == "debt":
            self.owe(missing)
            reversal.to_debt = missing
            journal.move(missing, "debt", "issued")
        return reversal

    def join(self, other: "Book", source: UUID) -> None:
        """Take over another member's lots and debt; what is owed is repaid from what is active."""
        journal = self._journal(source, "merge", "join", None)
        for lot in other.lots:
            account: Account = "active" if lot.active else "pending"
            journal.hand_over(lot.remaining, account, other.contact_id, lot)
            lot.contact_id, lot.changed = self.contact_id, True
        journal.hand_over(-other.debt, "debt", other.contact_id)
        self.owe(other.debt)
        other.owe(-other.debt)
        self.lots, other.lots = sorted([*self.lots, *other.lots], key=_by_id), []
        active = sorted((lot for lot in self.lots if lot.active), key=spending_order)
        self._repay(active, source, None, "merge")

    def _issue(self, credit: Credit, account: Literal["pending", "active"]) -> list[Lot]:
        journal = self._journal(credit.event_id, "purchase", "issue", credit.purchase_id)
        lots = [
            Lot(
                id=None,
                contact_id=self.contact_id,
                purchase_id=credit.purchase_id,
                line=share.line,
                net_minor=share.net_minor,
                points=share.points,
                remaining=share.points,
                active_from=credit.active_from,
                expires_at=credit.expires_at,
                active=account == "active",
                changed=True,
            )
            for share in credit.shares
            if share.points
        ]
        for lot in lots:
            journal.move(lot.points, "issued", account, lot)
        self.lots += lots
        return lots

    def _take(self, lot: Lot, at_most: int, journal: Journal, reversal: Reversal) -> int:
        taken = lot.take(at_most)
        if lot.active:
            journal.move(taken, "active", "issued", lot)
            reversal.from_active += taken
        else:
            journal.move(taken, "pending", "issued", lot)
            reversal.from_pending += taken
        return taken

    def _repay(
        self, lots: Sequence[Lot], source: UUID, purchase_id: UUID | None, rule: Rule = "purchase"
    ) -> int:
        journal = self._journal(source, rule, "repay", purchase_id)
        repaid = 0
        for lot in lots:
            points = lot.take(self.debt)
            self.owe(-points)
            journal.move(points, "active", "debt", lot)
            repaid += points
        return repaid

    def owe(self, points: int) -> None:
        """Change the debt by so many points."""
        if points:
            self.debt += points
            self.debt_changed = True

    def _own(self, purchase_id: UUID) -> list[Lot]:
        return [lot for lot in self.lots if lot.purchase_id == purchase_id]

    def _journal(self, source: UUID, rule: Rule, leg: Leg, purchase_id: UUID | None) -> Journal:
        journal = Journal(self.contact_id, source, rule, leg, purchase_id)
        self.journals.append(journal)
        return journal


def _by_id(lot: Lot) -> int:
    return lot.id or 0
