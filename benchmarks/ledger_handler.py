"""How many purchases per second the ledger takes: handler and SQL, Python and Postgres on one core.

Run `python -m benchmarks.ledger_handler` for an embedded Postgres of its own, or give `--dsn` of an
empty database (its server's affinity is then left as it is). Batches are committed, the members'
keys locked; consumer, gate and outbox are not part of it.
"""

import argparse
import asyncio
import os
import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

from loyalty.handlers.members import enrol_members
from loyalty.handlers.purchases import award_points
from rapport.contracts.contacts import ContactRegistered, PurchaseLine, PurchaseRecorded
from rapport.database import connect
from rapport.messaging.delivery import Delivery
from rapport.messaging.ids import derived_id
from rapport.messaging.transaction import ADD_KEYS, Tx
from rapport.migrate import migrate
from rapport.pgtypes import Connection
from rapport.testing import deliver
from rapport_local.infra import Infra

MEMBERS = 23_570
PURCHASES = 69_659
BATCH = 500
NOW = datetime(1998, 1, 1, tzinfo=UTC)


def make_purchases(count: int) -> list[Delivery[PurchaseRecorded]]:
    """Make a year of purchases in date order, one line each; the last two weeks are pending."""
    draw = random.Random(5)  # noqa: S311  the same purchases in each run
    events = [
        PurchaseRecorded(
            contact_id=derived_id("contact", draw.randrange(MEMBERS)),
            purchase_id=derived_id("purchase", number),
            source="bench",
            order=str(number),
            occurred_at=NOW - timedelta(days=365) * (count - number) / count,
            currency="USD",
            lines=(
                PurchaseLine(line="1", sku="cd", quantity=1, net_minor=draw.randrange(500, 20_000)),
            ),
        )
        for number in range(count)
    ]
    return [deliver(e, event_id=derived_id("event", e.purchase_id), time=NOW) for e in events]


async def enrol(connection: Connection) -> None:
    """Register the contacts, untimed."""
    ids = [derived_id("contact", number) for number in range(MEMBERS)]
    await connection.execute(ADD_KEYS, ids)
    async with connection.transaction():
        tx = Tx(connection, NOW)
        await tx.lock_keys(ids)
        events = [ContactRegistered(contact_id=key, registered_at=NOW) for key in ids]
        await enrol_members(
            [deliver(e, event_id=derived_id("event", e.contact_id)) for e in events], tx
        )


async def credit(connection: Connection, purchases: Sequence[Delivery[PurchaseRecorded]]) -> float:
    """Credit all purchases batch by batch; return the seconds it took."""
    begin = time.perf_counter()
    for start in range(0, len(purchases), BATCH):
        batch = purchases[start : start + BATCH]
        async with connection.transaction():
            tx = Tx(connection, NOW)
            await tx.lock_keys({d.contact_id for d in batch})
            await award_points(batch, tx)
    return time.perf_counter() - begin


async def run(dsn: str, count: int) -> None:
    """Measure and print."""
    await migrate(dsn, "loyalty")
    connection = await connect(dsn)
    try:
        await enrol(connection)
        purchases = make_purchases(count)
        cpu = time.process_time()
        seconds = await credit(connection, purchases)
        cpu = time.process_time() - cpu
        lines = await connection.fetchval("select count(*) from journal_line")
        print(
            f"{count:,} purchases, {lines:,} ledger lines: {count / seconds:,.0f} purchases/s "
            f"({seconds / count * 1e6:.0f} µs each, {cpu / count * 1e6:.0f} of them Python)"
        )
    finally:
        await connection.close()


def main() -> None:
    """Read the command line, start Postgres unless one is named, run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dsn", help="an empty database, instead of an embedded Postgres")
    parser.add_argument("--purchases", type=int, default=PURCHASES)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with ExitStack() as stack:
        dsn = options.dsn or stack.enter_context(Infra()).create_database("loyalty")
        asyncio.run(run(dsn, options.purchases))


if __name__ == "__main__":
    main()
