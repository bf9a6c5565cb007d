"""What is done again gives the same: rolled-back handlers, positions set back, racing redrives."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING
from uuid import uuid4

from rapport.contracts.contacts import PurchaseRecorded
from rapport.contracts.loyalty import PointsAwarded
from rapport.messaging import runner
from rapport.messaging.handler import several_per_contact
from rapport.messaging.redrive import NothingParkedError, Redrive
from rapport.testing.inprocess import until
from tests.flows import lab
from tests.flows.lab import CONTACTS, LOYALTY
from tests.flows.toys import enter, fetch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    import pytest

    from rapport.messaging.delivery import Delivery
    from rapport.messaging.transaction import Tx
    from rapport.testing.inprocess import InProcess
    from rapport_local.infra import Infra
    from tests.flows.toys import Toys

ADD_ONCE = """
with entered as (
    insert into entry (contact_id, event_id, note, number)
    select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[])
    on conflict (event_id) do nothing returning contact_id, number
)
insert into book (contact_id, points)
select contact_id, sum(number) from entered group by 1 order by 1
on conflict (contact_id) do update set points = book.points + excluded.points
"""
TOTALS = "select count(*), sum(number), (select sum(points) from book) from entry"


@several_per_contact
async def enter_once(purchases: Sequence[Delivery[PurchaseRecorded]], tx: Tx) -> None:
    """As a real handler does: its effects are unique by the event that they come from."""
    amounts = [p.event.lines[0].net_minor for p in purchases]
    columns = ([p.contact_id for p in purchases], [p.id for p in purchases])
    await tx.execute(ADD_ONCE, *columns, [p.event.order for p in purchases], amounts)
    for p, amount in zip(purchases, amounts, strict=True):
        for part in (1, amount - 1):
            award = PointsAwarded(
                contact_id=p.contact_id, purchase_id=p.event.purchase_id, points=part
            )
            tx.publish(award, cause=p)


@several_per_contact
async def note_once(awards: Sequence[Delivery[PointsAwarded]], tx: Tx) -> None:
    columns = ([a.contact_id for a in awards], [a.id for a in awards])
    notes = [str(a.event.purchase_id) for a in awards]
    await tx.execute(ADD_ONCE, *columns, notes, [a.event.points for a in awards])


async def test_a_rolled_back_handler_publishes_the_same_ids(toys: Toys) -> None:
    """Batches fail and are halved; whatever the cut, each purchase causes the same two events."""
    attempts: list[dict[UUID, UUID]] = []

    @several_per_contact
    async def fail_at_first(purchases: Sequence[Delivery[PurchaseRecorded]], tx: Tx) -> None:
        await enter_once(purchases, tx)
        attempts.append({e.id: e.cause.cause_id for e in tx.published})
        if len(attempts) <= 4:
            raise ValueError("this time it fails")

    till = await toys.start("contacts", {})
    contacts = [uuid4() for _ in range(8)]
    for contact in contacts:
        await lab.record(till.running.database, contact, map(str, range(10)), amount=5)
    book = await toys.start("loyalty", {PurchaseRecorded: fail_at_first})
    await lab.entered(book, 80)
    causes: dict[UUID, UUID] = {}
    for attempt in attempts:
        for event, cause in attempt.items():
            assert causes.setdefault(event, cause) == cause
    assert len(attempts) > 5
    assert len(causes) == 160, "an event that was tried again got another id"
    rows = await fetch(book, "select event_id from rapport.outbox")
    assert {row["event_id"] for row in rows} == set(causes)
    assert len(rows) == 160


async def test_everything_read_again_changes_nothing(toys: Toys, infra: Infra) -> None:
    """Positions are set back to nothing: natural keys hold, also behind the events caused again."""
    till = await toys.start("contacts", {PointsAwarded: note_once})
    book = await toys.start("loyalty", {PurchaseRecorded: enter_once})
    contacts = [uuid4() for _ in range(10)]
    for contact in contacts:
        await lab.record(till.running.database, contact, map(str, range(5)), amount=7)
    await lab.entered(till, 100)
    before = [list((await fetch(p, TOTALS))[0].values()) for p in (till, book)]
    assert before == [[100, 350, 350], [50, 350, 350]]
    dsn = book.definition.settings.database_dsn
    await book.stop()
    async with lab.opened(dsn) as database:
        await database.pool.execute(
            "update rapport.position set number = 0, kafka_offset = 0 where stream = $1", CONTACTS
        )
    book = await toys.start("loyalty", {PurchaseRecorded: enter_once})

    async def noted_again() -> bool:
        sql = "select sum(number) from rapport.position where stream = $1"
        return bool((await fetch(till, sql, LOYALTY))[0][0] == 200)

    await until(noted_again, "200 events of loyalty passed the till")
    assert [list((await fetch(p, TOTALS))[0].values()) for p in (till, book)] == before
    ids = [e.id for e in await lab.read_stream(infra, LOYALTY)]
    assert len(ids) == 200
    assert len(set(ids)) == 100
    await lab.assert_nothing_parked(till, book)


class Fragile:
    """A handler that fails for one contact as long as it is told to."""

    def __init__(self) -> None:
        self.contact: UUID | None = None

    async def enter(self, purchases: Sequence[Delivery[PurchaseRecorded]], tx: Tx) -> None:
        """Enter them, unless the fragile contact is among them."""
        if any(p.contact_id == self.contact for p in purchases):
            raise ValueError("not this one")
        await enter(purchases, tx)


async def parked(book: InProcess) -> int:
    return int((await fetch(book, "select count(*) from rapport.parked_event"))[0][0])


async def test_a_redrive_races_live_events(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events of the contact keep coming while it is redriven: order kept, nothing stranded."""
    monkeypatch.setattr(runner, "ALONE_DELAYS", (0.01, 0.01, 0.01))
    fragile, rng = Fragile(), random.Random(8)  # noqa: S311  timings
    till = await toys.start("contacts", {})
    book = await toys.start("loyalty", {PurchaseRecorded: fragile.enter})
    redrive = Redrive(book.running.database, book.running.consuming.decoders, ())
    contact, written, raced = lab.contact_in(0), 0, 0

    async def write(events: int, pause: float) -> None:
        nonlocal written
        for _ in range(events):
            await lab.record(till.running.database, contact, [f"{written:05}"])
            written += 1
            await asyncio.sleep(rng.random() * pause)

    async def redrive_soon(pause: float) -> None:
        await asyncio.sleep(rng.random() * pause)
        while await parked(book):
            try:
                await redrive.run(contact, "test")
            except NothingParkedError:
                return

    for _ in range(15):
        fragile.contact = contact
        await write(rng.randrange(1, 6), 0.0)
        await until(lambda: parked(book), "the contact is parked")
        fragile.contact = None
        before = written
        await asyncio.gather(write(12, 0.02), redrive_soon(0.2))
        raced += written - before
        await until(lambda: passed(book, written), f"{written} events entered or parked")
        await redrive_soon(0.0)
        await lab.entered(book, written)
    assert raced == 15 * 12
    assert await lab.orders_of(book, contact) == [f"{n:05}" for n in range(written)]
    keys = await fetch(book, "select count(*) from rapport.key where parked")
    assert keys[0][0] == 0, "the contact stayed parked"
    await lab.assert_nothing_parked(book)


async def passed(book: InProcess, events: int) -> bool:
    sql = "select (select count(*) from entry) + (select count(*) from rapport.parked_event)"
    return bool((await fetch(book, sql))[0][0] >= events)
