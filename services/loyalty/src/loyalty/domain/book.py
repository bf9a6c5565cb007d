"""A member's book: lots and debt, and what purchases, time, refunds and merges do to them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

from loyalty.domain.earning import Credit
from loyalty.domain.journal import Account, Journal, Leg, Rule
from loyalty.domain.lot import Lot, spending_order
from loyalty.domain.outcome import Activation, Balance, Reversal
from loyalty.domain.programme import Shortfall
from loyalty.domain.records import CappedLine, Redemption, Refund


@dataclass(slots=True)
class Book:
    """One member at one instant, loaded under the member's lock, with what is to be written.

    Expects lots in the order of their ids; new ones are appended. `redemptions` are those that hold
    points, `capped` the lines of the days that are divided anew.
    """

    contact_id: UUID
    now: datetime
    lots: list[Lot] = field(default_factory=list)
    debt: int = 0
    debt_changed: bool = False
    redemptions: list[Redemption] = field(default_factory=list)
    capped: list[CappedLine] = field(default_factory=list)
    journals: list[Journal] = field(default_factory=list)

    def balance(self) -> Balance:
        """Sum the lots by state as they stand at this instant."""
        return Balance(
            pending=sum(lot.remaining for lot in self.lots if not lot.active),
            active=sum(lot.remaining for lot in self.lots if lot.usable(self.now)),
            held=sum(lot.held for lot in self.lots),
            debt=self.debt,
        )

    def credit(self, credit: Credit) -> None:
        """Issue a purchase's points as pending lots, one per line that earned any."""
        self._issue(credit, "pending")

    def credit_active(self, credit: Credit) -> Activation:
        """Issue a purchase's points as active ones: its return window is over."""
        lots = self._issue(credit, "active")
        journal = self.journal(credit.event_id, "purchase", "repay", credit.purchase_id)
        return Activation(credit.points, self.repay(lots, journal))

    def activate(self, purchase_id: UUID, source: UUID) -> Activation:
        """Make a purchase's pending points active, and repay what is owed before all else."""
        journal = self.journal(source, "purchase", "activate", purchase_id)
        woken = [lot for lot in self._own(purchase_id) if not lot.active]
        for lot in woken:
            lot.active = lot.changed = True
            journal.move(lot.remaining, "pending", "active", lot)
        points = sum(lot.remaining for lot in woken)
        journal = self.journal(source, "purchase", "repay", purchase_id)
        return Activation(points, self.repay(woken, journal))

    def expire(self, purchase_id: UUID, source: UUID) -> int:
        """Let a purchase's active points lapse that are past their expiry; return how many.

        Held points outlive it: they lapse when they are released.
        """
        journal = self.journal(source, "purchase", "expire", purchase_id)
        return self.lapse(self._own(purchase_id), journal)

    def lapse(self, lots: Sequence[Lot], journal: Journal) -> int:
        """Let those lots' active points lapse that are past their expiry; return how many."""
        lapsed = 0
        for lot in lots:
            if lot.active and lot.due(self.now):
                points = lot.lapse()
                journal.move(points, "active", "expired", lot)
                lapsed += points
        return lapsed

    def claw(self, refund: Refund, shortfall: Shortfall) -> Reversal:
        """Take back what the refunded lines had earned."""
        journal = self.journal(refund.event_id, "refund", "claw", refund.purchase_id)
        by_line = {lot.line: lot for lot in self._own(refund.purchase_id)}
        lots = [(by_line.get(line.line), line.net_minor) for line in refund.lines]
        claims = [(lot, lot.refund(net_minor)) for lot, net_minor in lots if lot]
        return self.take_back(claims, journal, shortfall)

    def take_back(
        self, claims: Sequence[tuple[Lot, int]], journal: Journal, shortfall: Shortfall
    ) -> Reversal:
        """Take so many points back from each of one purchase's lots.

        From the own lot first, expired points included; then from the order's other active lots,
        then from other orders' by earliest expiry, never from another order's pending ones and
        never what is held. What is missing is owed, or absorbed.
        """
        reversal = Reversal()
        missing = 0
        for lot, claimed in claims:
            left = claimed - self._take(lot, claimed, journal, reversal)
            revived = lot.revive(left)
            journal.move(revived, "expired", "issued", lot)
            missing += left - revived
        own = {lot.purchase_id for lot, _ in claims}
        usable = sorted((lot for lot in self.lots if lot.usable(self.now)), key=spending_order)
        for lot in sorted(usable, key=lambda lot: lot.purchase_id not in own):
            if missing:
                missing -= self._take(lot, missing, journal, reversal)
        if missing and shortfall == "debt":
            self.owe(missing)
            reversal.to_debt = missing
            journal.move(missing, "debt", "issued")
        return reversal

    def join(self, other: "Book", source: UUID) -> None:
        """Take over another member's lots and debt; what is owed is repaid from what is active."""
        journal = self.journal(source, "merge", "join", None)
        for lot in other.lots:
            account: Account = "active" if lot.active else "pending"
            journal.hand_over(lot.remaining, account, other.contact_id, lot)
            journal.hand_over(lot.held, "held", other.contact_id, lot)
            lot.contact_id, lot.changed = self.contact_id, True
        journal.hand_over(-other.debt, "debt", other.contact_id)
        self.owe(other.debt)
        other.owe(-other.debt)
        self.lots, other.lots = sorted([*self.lots, *other.lots], key=_by_id), []
        for redemption in other.redemptions:
            redemption.contact_id = self.contact_id
        self.redemptions, other.redemptions = [*self.redemptions, *other.redemptions], []
        self.capped, other.capped = [*self.capped, *other.capped], []
        active = sorted((lot for lot in self.lots if lot.active), key=spending_order)
        self.repay(active, self.journal(source, "merge", "repay", None))

    def _issue(self, credit: Credit, account: Literal["pending", "active"]) -> list[Lot]:
        journal = self.journal(credit.event_id, "purchase", "issue", credit.purchase_id)
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

    def repay(self, lots: Sequence[Lot], journal: Journal, at: datetime | None = None) -> int:
        """Settle what is owed from these lots, unless they are past their expiry by then."""
        repaid = 0
        for lot in lots:
            points = lot.take(self.debt) if lot.usable(at or self.now) else 0
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

    def find_lot(self, purchase_id: UUID, line: str) -> Lot | None:
        """Find a line's lot among those that were loaded."""
        found = (lot for lot in self._own(purchase_id) if lot.line == line)
        return next(found, None)

    def journal(self, source: UUID, rule: Rule, leg: Leg, purchase_id: UUID | None) -> Journal:
        """Begin a journal of this member."""
        journal = Journal(self.contact_id, source, rule, leg, purchase_id)
        self.journals.append(journal)
        return journal


def _by_id(lot: Lot) -> int:
    return lot.id or 0
