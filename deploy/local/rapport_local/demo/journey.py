"""One purchase's journey through the suite, with times, hop by hop."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

from rapport.journeys import Hop, follow, moment
from rapport.messaging.ids import derived_id
from rapport.opsclient import OpsClient
from rapport_local.demo.access import Access
from rapport_local.demo.dataset import SOURCE, Purchase

FIRST_LIVE = date(1998, 1, 15)
LAST_LIVE = date(1998, 3, 15)
NOTABLE_MINOR = 10_000


def choose(purchases: Sequence[Purchase]) -> Purchase | None:
    """Choose a purchase of the days of 1998 that is not refunded, rather one above 100 dollars."""
    live = [p for p in purchases if FIRST_LIVE <= p.on <= LAST_LIVE and p.net_minor]
    kept = [p for p in live if p.refunded() is None]
    notable = [p for p in kept if p.net_minor >= NOTABLE_MINOR and p.customer % 2 == 0]
    return next(iter([*notable, *kept]), None)


async def follow_purchase(access: Access, purchase: Purchase) -> list[Hop]:
    """Return the hops from the till's event, and those from the day the points became active."""
    external = derived_id("external", SOURCE, purchase.recorded().id)
    purchase_id = derived_id("purchase", SOURCE, purchase.order)
    activation = derived_id("timer", "activation", str(purchase_id))
    async with OpsClient(access.ops) as ops:
        return [await follow(ops, str(start)) for start in (external, activation)]


def list_lines(journey: Sequence[Hop]) -> list[tuple[str, str, str]]:
    """Return (milliseconds since the first writing, service, what happened), in order of time."""
    lines: list[tuple[datetime, str, str]] = []
    for hop in (hop for start in journey for hop in start.walk()):
        if hop.written_at and hop.service and hop.written:
            place = f"{hop.written.get('partition')}:{hop.written.get('number')}"
            lines.append((hop.written_at, hop.service, f"writes {hop.type} ({place})"))
        for service, rows in hop.applied.items():
            # a batch without anything for the service leaves nothing to tell
            times = [moment(row["committed_at"]) for row in rows if row["applied"]]
            lines += [(at, service, f"applies {hop.type}") for at in times if at]
    lines.sort(key=lambda line: line[0])
    return [(_after(at, lines[0][0]), service, what) for at, service, what in lines]


def _after(at: datetime, begin: datetime) -> str:
    milliseconds = (at - begin).total_seconds() * 1000
    return f"{milliseconds:,.1f} ms"
