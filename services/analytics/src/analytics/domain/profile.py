"""A contact's purchase figures, and how one event changes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from uuid import UUID


@dataclass(slots=True)
class Profile:
    """Kept purchases, the days on which they were made, and their money net of refunds.

    `days` counts kept purchases per day: for `record` the day in question is enough, `give_back`
    and `join` need them all. Segment codes are the contact's present memberships.
    """

    contact_id: UUID
    kept_purchases: int = 0
    purchase_days: int = 0
    monetary_minor: int = 0
    first_kept_on: date | None = None
    last_kept_on: date | None = None
    days: dict[date, int] = field(default_factory=dict)
    segments: set[str] = field(default_factory=set)

    def record(self, day: date, amount_minor: int, *, kept: bool) -> None:
        """Add a purchase; one of which nothing is kept, as a free one, counts no day."""
        self.monetary_minor += amount_minor
        if not kept:
            return
        self.kept_purchases += 1
        before = self.days.get(day, 0)
        self.days[day] = before + 1
        if not before:
            self.purchase_days += 1
        self.first_kept_on = min(self.first_kept_on or day, day)
        self.last_kept_on = max(self.last_kept_on or day, day)

    def give_back(self, day: date, amount_minor: int, *, undone: bool) -> None:
        """Take a refund of a purchase made on `day`; `undone` when nothing is left of it now."""
        self.monetary_minor -= amount_minor
        if not undone:
            return
        self.kept_purchases -= 1
        self.days[day] -= 1
        if not self.days[day]:
            self.purchase_days -= 1
            kept = [d for d, purchases in self.days.items() if purchases]
            self.first_kept_on = min(kept, default=None)
            self.last_kept_on = max(kept, default=None)

    def join(self, other: Profile) -> None:
        """Take over the figures of another contact that turned out to be the same person."""
        self.kept_purchases += other.kept_purchases
        self.monetary_minor += other.monetary_minor
        for day, purchases in other.days.items():
            self.days[day] = self.days.get(day, 0) + purchases
        kept = [d for d, purchases in self.days.items() if purchases]
        self.purchase_days = len(kept)
        self.first_kept_on = min(kept, default=None)
        self.last_kept_on = max(kept, default=None)
