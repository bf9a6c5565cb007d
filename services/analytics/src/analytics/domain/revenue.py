"""Revenue by day: purchases on their own day, refunds on theirs."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date


@dataclass(slots=True)
class RevenueChange:
    """What a batch adds to one day."""

    purchases: int = 0
    refunds: int = 0
    gross_minor: int = 0
    refunded_minor: int = 0


@dataclass(slots=True)
class RevenueChanges:
    """What a batch adds, by day and stream partition."""

    by_place: dict[tuple[date, int], RevenueChange] = field(default_factory=dict)

    def record(self, day: date, partition: int, amount_minor: int) -> None:
        """Add a purchase."""
        change = self.by_place.setdefault((day, partition), RevenueChange())
        change.purchases += 1
        change.gross_minor += amount_minor

    def give_back(self, day: date, partition: int, amount_minor: int) -> None:
        """Add a refund."""
        change = self.by_place.setdefault((day, partition), RevenueChange())
        change.refunds += 1
        change.refunded_minor += amount_minor
