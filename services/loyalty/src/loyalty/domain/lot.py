"""A lot: the points of one order line, spent and clawed as one."""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(slots=True, eq=False)
class Lot:
    """`points` = `remaining` + `held` + clawed from it + spent + repaid + `expired`.

    `clawed` is what refunds of the line have claimed so far, wherever it was taken from.
    """

    id: int | None
    contact_id: UUID
    purchase_id: UUID
    line: str
    net_minor: int
    points: int
    remaining: int
    active_from: datetime
    expires_at: datetime | None
    active: bool = False
    refunded_minor: int = 0
    clawed: int = 0
    expired: int = 0
    held: int = 0
    changed: bool = False

    def refund(self, net_minor: int) -> int:
        """Count a refund of the line; return the points that it claims.

        So far: floor(points * refunded / net), and never above what the line earned.
        """
        self.changed = True
        self.refunded_minor = min(self.net_minor, self.refunded_minor + net_minor)
        claimed = self.points * self.refunded_minor // self.net_minor
        claimed, self.clawed = claimed - self.clawed, claimed
        return claimed

    def claim(self, points: int) -> None:
        """Count points that are claimed back."""
        self.clawed += points
        self.changed = True

    def issue(self, points: int) -> None:
        """Credit the lot with more points."""
        self.points += points
        self.put_back(points)

    def take(self, at_most: int) -> int:
        """Take up to so many of the remaining points; return how many."""
        taken = min(self.remaining, at_most)
        if taken:
            self.remaining -= taken
            self.changed = True
        return taken

    def revive(self, at_most: int) -> int:
        """Take up to so many of the points that expired: they were lost once, that is enough."""
        taken = min(self.expired, at_most)
        if taken:
            self.expired -= taken
            self.changed = True
        return taken

    def lapse(self) -> int:
        """Let what remains expire; return how many points that were."""
        lapsed, self.remaining = self.remaining, 0
        if lapsed:
            self.expired += lapsed
            self.changed = True
        return lapsed

    def hold(self, at_most: int) -> int:
        """Set aside up to so many of the remaining points; return how many."""
        held = self.take(at_most)
        self.held += held
        return held

    def let_go(self, points: int) -> None:
        """End the hold of so many points, which then are on no account of the lot."""
        self.held -= points
        self.changed = True

    def put_back(self, points: int) -> None:
        """Return points that had been held or spent."""
        self.remaining += points
        self.changed = True

    def lose(self, points: int) -> None:
        """Let points lapse that had been held or spent."""
        self.expired += points
        self.changed = True

    def due(self, now: datetime) -> bool:
        """Tell whether the lot is past its expiry."""
        return self.expires_at is not None and self.expires_at <= now

    def usable(self, now: datetime) -> bool:
        """Tell whether what remains may be spent, clawed for another lot or repay a debt.

        Judged by time: not once the lot is past its expiry, whether or not a timer has fired.
        """
        return self.active and not self.due(now)


def spending_order(lot: Lot) -> tuple[datetime, datetime]:
    """Earliest expiry first, then oldest; a stable sort by it keeps the order of ids."""
    return (lot.expires_at or NEVER, lot.active_from)
