"""One purchase's journey through the suite, with times, hop by hop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime

from rapport.journeys import Hop, follow, moment
from rapport.messaging.ids import derived_id
from rapport.opsclient import OpsClient
from rapport_local.demo.access import Access
from rapport_local.demo.dataset import SOURCE, Purchase

FIRST_LIVE = date(1998, 1, 15)
LAST_LIVE = date(1998, 3, 15)
NOTABLE_MINOR = 10_000
LONG_SECONDS = 5


def choose(purchases: Sequence[Purchase]) -> Purchase | None:
    """Choose a purchase of the days of 1998 that is not refunded, rather one above 100 dollars."""
    live = [p for p in purchases if FIRST_LIVE <= p.on <= LAST_LIVE and p.net_minor]
    kept = [p for p in live if p.refunded() is None]
    notable = [p for p in kept if p.net_minor >= NOTABLE_MINOR and p.customer % 2 == 0]
    return next(iter([*notable, *kept]), None)


async def follow_purchase(access: Access, purchase: Purchase) -> list[Hop]:
    """Return the hops from the till's event on, to the mail and the points' activation."""
    external = derived_id("external", SOURCE, purchase.recorded().id)
    async with OpsClient(access.ops) as ops:
        return [await follow(ops, str(external))]


def list_lines(journey: Sequence[Hop]) -> list[tuple[str, str, str]]:
    """Return (time since the first line, service, what happened), in order of time."""
    lines = sorted(
        (line for start in journey for hop in start.walk() for line in _lines(hop)),
        key=lambda line: (line[0], line[2]),
    )
    return [(_after(at, lines[0][0]), service, what) for at, service, what in lines]


def _lines(hop: Hop) -> Iterator[tuple[datetime, str, str]]:
    service, name = hop.service or "", short(hop.type)
    accepted_at = moment(hop.accepted["accepted_at"]) if hop.accepted else None
    if accepted_at and hop.accepted:
        yield accepted_at, service, f"accepts {hop.accepted['id']} of {hop.accepted['source']}"
    if hop.written_at and hop.written:
        place = f"number {hop.written.get('number')} of partition {hop.written.get('partition')}"
        yield hop.written_at, service, f"writes {name}, {place}"
    for consumer, rows in hop.applied.items():
        # a batch without anything for the service leaves nothing to tell
        for at in (moment(row["committed_at"]) for row in rows if row["applied"]):
            if at:
                yield at, consumer, f"applies {name}"


def short(event_type: str) -> str:
    """Return a type without what all types begin and end with."""
    return event_type.removeprefix("rapport.").removesuffix(".v1")


def _after(at: datetime, begin: datetime) -> str:
    seconds = (at - begin).total_seconds()
    return f"{seconds * 1000:,.1f} ms" if seconds < LONG_SECONDS else f"{seconds:,.1f} s"
