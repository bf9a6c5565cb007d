"""The independent count: what every total must be, from the file and the rules of the story alone.

Plain Python, standard library only; nothing of Rapport and nothing of the rest of the demo is
imported, so that a mistake there cannot hide here. The rules, in its own words:

* A row of the file is a purchase at 12:00; its number is its order. The customers come first, every
  even one with consent to marketing. Where only a part of the customers is taken, each block of
  `scale` numbers gives one.
* Every 50th row is refunded in full 20 days later, every 500th instead an hour later, published
  before its purchase. Of a purchase that cost nothing there is nothing to refund.
* Everything of 1997 is published at the midnight that begins 1998. Later days are published at
  their end, from April on the weeks at theirs.
* One point per whole dollar, pending for 14 days; a refund takes them back.
* A thank-you for each purchase that cost something, unless it is older than 7 days when it is
  published. A year later, at 9:00, thanks for the first purchase that was kept, where there is
  consent.
* A customer whose kept purchases reach 100 dollars is valued.
"""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import groupby
from pathlib import Path

FIRST_DAY = date(1998, 1, 1)
FIRST_WEEK = date(1998, 4, 1)
LAST_DAY = date(1998, 7, 31)
ONE_DAY = timedelta(days=1)
PENDING_DAYS = 14
REFUND_DAYS = 20
VALUED_MINOR = 10_000
MAIL_AGE_DAYS = 7


@dataclass(frozen=True)
class Row:
    """A row of the file, with its number."""

    number: int
    customer: int
    day: date
    minor: int

    @property
    def points(self) -> int:
        """Points that it earns."""
        return self.minor // 100

    @property
    def refunded_on(self) -> date | None:
        """The day of its refund, if one is made up for it."""
        if self.number % 50:
            return None
        return self.day if self.number % 500 == 0 else self.day + REFUND_DAYS * ONE_DAY

    @property
    def published_on(self) -> date:
        """The day with whose midnight, its first instant, it is published."""
        return midnight_of(self.day)


@dataclass
class Seen:
    """One customer's rows and refunds that were published by a day, and what was counted."""

    rows: list[Row]
    refunds: list[Row]
    until: date
    total: Counter[str] = field(default_factory=Counter)

    def kept(self, row: Row) -> bool:
        """Tell whether something of it is left."""
        return row.minor > 0 and row not in self.refunds


def midnight_of(day: date) -> date:
    """Return the day with whose midnight the events of `day` are published."""
    if day < FIRST_DAY:
        return FIRST_DAY
    if day < FIRST_WEEK:
        return day + ONE_DAY
    weeks = (day - FIRST_WEEK).days // 7 + 1
    return min(FIRST_WEEK + weeks * 7 * ONE_DAY, LAST_DAY + ONE_DAY)


def read_rows(path: Path, scale: int) -> Iterator[Row]:
    """Read the file: customer, date, number of discs, dollars."""
    with gzip.open(path, "rt", encoding="ascii") as lines:
        next(lines)
        for number, line in enumerate(lines, 1):
            customer, day, _, dollars = line.split()
            block, place = divmod(int(customer) - 1, scale)
            if place == block % scale:
                whole, cents = dollars.split(".")
                yield Row(
                    number,
                    int(customer),
                    date(int(day[:4]), int(day[4:6]), int(day[6:])),
                    int(whole) * 100 + int(cents.ljust(2, "0")),
                )


def count(path: Path, until: date, *, scale: int = 1, refunds: bool = True) -> dict[str, int]:
    """Return every total as it must be at the end of the day `until`, by name."""
    total: Counter[str] = Counter()
    for customer, rows in groupby(read_rows(path, scale), key=lambda row: row.customer):
        total += count_customer(customer, list(rows), until, refunds=refunds)
    return dict(derive(total))


def count_customer(customer: int, rows: list[Row], until: date, *, refunds: bool) -> Counter[str]:
    """Count one customer's part of each total."""
    seen = Seen([row for row in rows if row.day <= until], [], until)
    if refunds:
        days = [(row, row.refunded_on) for row in seen.rows]
        seen.refunds = [row for row, day in days if day is not None and day <= until]
    seen.total["contacts"] = 1
    seen.total["consents"] = int(customer % 2 == 0)
    count_money(seen)
    count_points(seen)
    count_thanks(seen)
    count_anniversaries(seen, consent=customer % 2 == 0)
    count_segment(seen)
    return seen.total


def count_money(seen: Seen) -> None:
    """Purchases and refunds, by number and by money."""
    seen.total["purchases"] = len(seen.rows)
    seen.total["refunds"] = len(seen.refunds)
    seen.total["purchasers"] = int(bool(seen.rows))
    seen.total["revenue_gross_minor"] = sum(row.minor for row in seen.rows)
    seen.total["refunded_minor"] = sum(row.minor for row in seen.refunds)


def count_points(seen: Seen) -> None:
    """Points by state, and how often each thing happened to them."""
    for row in seen.rows:
        if not row.points:
            continue
        active_on = row.day + PENDING_DAYS * ONE_DAY
        at_once = active_on < row.published_on
        refunded = row in seen.refunds
        before_it_was_active = refunded and row.number % 500 == 0 and not at_once
        active = active_on <= seen.until
        seen.total["earned"] += 1
        seen.total["pended"] += not at_once
        seen.total["awarded"] += active and not before_it_was_active
        seen.total["activated"] += active and not before_it_was_active and not at_once
        seen.total["reversed"] += refunded
        if not refunded:
            state = "active" if active else "pending"
            seen.total[f"points_{state}"] += row.points
            seen.total[f"lots_{state}"] += 1


def count_thanks(seen: Seen) -> None:
    """Thank-yous, sent or too old."""
    for row in seen.rows:
        if row.minor:
            # It is published at midnight and dates from noon, half a day off.
            age_days = (row.published_on - row.day).days - 0.5
            seen.total["thanks_too_old" if age_days > MAIL_AGE_DAYS else "thanks_sent"] += 1


def count_anniversaries(seen: Seen, *, consent: bool) -> None:
    """Anniversaries of kept purchases, one per day, and the thanks for the first of them."""
    kept = [row.day for row in seen.rows if seen.kept(row)]
    days = {day for day in kept if FIRST_DAY <= day.replace(year=day.year + 1) <= seen.until}
    seen.total["anniversaries"] = len(days)
    if kept and min(kept) in days:
        seen.total["anniversary_sent" if consent else "anniversary_consent"] += 1


def count_segment(seen: Seen) -> None:
    """How often the customer became valued, and ceased to be."""
    steps = [(row.published_on, row.day, row.number, 0, row.minor) for row in seen.rows]
    for row in seen.refunds:
        day = row.refunded_on or row.day
        # One that comes before its purchase counts right after it.
        steps.append((midnight_of(day), day, row.number, 1, -row.minor))
    spent, valued = 0, False
    for *_, minor in sorted(steps):
        spent += minor
        if (spent >= VALUED_MINOR) != valued:
            valued = not valued
            seen.total["segment_entered" if valued else "segment_exited"] += 1
    seen.total["segment_members"] = int(valued)


def derive(total: Counter[str]) -> Counter[str]:
    """Add what follows: messages, the ledger, and how many events each service publishes."""
    total["points"] = total["points_pending"] + total["points_active"]
    total["revenue_minor"] = total["revenue_gross_minor"] - total["refunded_minor"]
    total["messages_sent"] = total["thanks_sent"] + total["anniversary_sent"]
    total["messages_suppressed"] = total["thanks_too_old"] + total["anniversary_consent"]
    # Each of these moves points from one account to another: a journal of two lines.
    total["journals"] = total["earned"] + total["activated"] + total["reversed"]
    total["ledger_lines"] = 2 * total["journals"]
    bought = total["purchases"] + total["refunds"]
    total["external_events"] = total["contacts"] + bought
    points = total["pended"] + total["awarded"] + total["reversed"]
    total["events_contacts"] = (
        total["contacts"] + total["consents"] + bought + total["anniversaries"]
    )
    total["events_loyalty"] = total["contacts"] + points
    total["events_notifications"] = 2 * total["messages_sent"] + total["messages_suppressed"]
    total["events_analytics"] = bought + total["segment_entered"] + total["segment_exited"]
    services = ("contacts", "loyalty", "notifications", "analytics")
    total["events"] = sum(total[f"events_{service}"] for service in services)
    return total
