"""A lot: the points of one order line, spent and clawed as one."""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(slots=True, eq=False)
class Lot:
    """`points` = `remaining` + clawed from it + spent + repaid + `expired`.

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

    def due(self, now: datetime) -> bool:
        """Tell whether the lot is past its expiry."""
        return self.expires_at is not None and self.expires_at <= now


def spending_order(lot: Lot) -> tuple[datetime, datetime]:
    """Earliest expiry first, then oldest; a stable sort by it keeps the order of ids."""
    return (lot.expires_at or NEVER, lot.active_from)
