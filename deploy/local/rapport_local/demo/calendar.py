"""The demo's days: everything of 1997 at once, then day by day, then week by week."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import pairwise

from rapport_local.demo.dataset import ZONE, External

DAY = timedelta(days=1)
WEEK = timedelta(days=7)
FIRST_DAY = date(1998, 1, 1)
FIRST_WEEK = date(1998, 4, 1)
END = date(1998, 8, 1)
LAST_DAY = END - DAY
CHECKED_ON = date(1998, 6, 30)
"""At the end of this day totals are checked, and at the end of the last one."""


@dataclass(frozen=True)
class Step:
    """What is published at one midnight: the events of the days before it."""

    midnight: datetime
    events: Sequence[External]

    @property
    def last_day(self) -> date:
        """The last day whose events it publishes."""
        return self.midnight.date() - DAY


def midnight(day: date) -> datetime:
    """Return the instant at which a day begins in the programme's zone."""
    return datetime.combine(day, time(0), ZONE)


def bulk(events: Sequence[External]) -> list[External]:
    """Return the events of 1997."""
    return [event for event in events if event.published_at < midnight(FIRST_DAY)]


def list_midnights() -> list[date]:
    """Return the days with whose midnight a step begins or ends."""
    days = [FIRST_DAY + number * DAY for number in range((FIRST_WEEK - FIRST_DAY).days)]
    weeks = [FIRST_WEEK + number * DAY for number in range(0, (END - FIRST_WEEK).days, 7)]
    return [*days, *weeks, END]


def list_last_days() -> list[date]:
    """Return the days at whose end a step's events are published."""
    return [day - DAY for day in list_midnights()[1:]]


def published_by(events: Sequence[External], until: date) -> list[External]:
    """Return the events of a life that ends with the day `until`."""
    return [event for event in events if event.published_at < midnight(until + DAY)]


def steps(events: Sequence[External], until: date = LAST_DAY) -> Iterator[Step]:
    """Yield the steps of 1998 up to a day, days and then weeks, each with its events in order."""
    for first, last in pairwise(list_midnights()):
        if last > until + DAY:
            return
        begin, end = midnight(first), midnight(last)
        yield Step(end, [event for event in events if begin <= event.published_at < end])
