"""What the ledger knows beside lots and journals: refunds, redemptions, lines that a cap counts."""

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal
from uuid import UUID

from rapport.contracts.contacts import RefundedLine

State = Literal["held", "captured", "released", "reversed"]


@dataclass(frozen=True, slots=True)
class Refund:
    """A refund as the ledger sees it; it may have waited for its purchase."""

    refund_id: UUID
    purchase_id: UUID
    contact_id: UUID
    event_id: UUID
    occurred_at: datetime
    lines: tuple[RefundedLine, ...]


@dataclass(slots=True, eq=False)
class Allocation:
    """How many points a redemption took from one lot, and how many of them were captured."""

    purchase_id: UUID
    line: str
    points: int
    captured: int = 0


@dataclass(slots=True, eq=False)
class Redemption:
    """A spend: held until it is captured or released; a captured one can be reversed."""

    id: UUID
    contact_id: UUID
    points: int
    reference: str | None
    authorised_at: datetime
    held_until: datetime
    state: State = "held"
    captured: int = 0
    allocations: list[Allocation] = field(default_factory=list)
    changed: bool = False

    def overdue(self, now: datetime) -> bool:
        """Tell whether the hold is over by time, whether or not its timer has fired."""
        return self.state == "held" and self.held_until <= now

    def state_at(self, now: datetime) -> State:
        """Return the state that counts at an instant."""
        return "released" if self.overdue(now) else self.state


@dataclass(slots=True, eq=False)
class CappedLine:
    """One line of a purchase on a day that has a cap.

    `points` is its share without the cap, `granted` what refunds and the cap leave of it so far.
    """

    contact_id: UUID
    day: date
    purchase_id: UUID
    number: int
    line: str
    occurred_at: datetime
    cap: int
    net_minor: int
    points: int
    active_from: datetime
    expires_at: datetime | None
    refunded_minor: int = 0
    granted: int = 0
    changed: bool = False

    @property
    def left(self) -> int:
        """What refunds leave of the share, whatever the cap."""
        return self.points - self.points * self.refunded_minor // self.net_minor

    def refund(self, net_minor: int) -> None:
        """Count a refund of the line."""
        self.refunded_minor = min(self.net_minor, self.refunded_minor + net_minor)
        self.changed = True

    def grant(self, points: int) -> int:
        """Set what is granted; return the change."""
        change = points - self.granted
        if change:
            self.granted, self.changed = points, True
        return change
