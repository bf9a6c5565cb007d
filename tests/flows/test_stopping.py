"""Stopping under load, static membership, and a process frozen inside its transaction."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING
from uuid import uuid4

from rapport.contracts.contacts import PurchaseRecorded
from rapport.testing.inprocess import until
from tests.flows import lab
from tests.flows.lab import CONTACTS, LOYALTY
from tests.flows.toy_process import FREEZE, ToyProcess
from tests.flows.toys import PARTITIONS, Toys, enter, fetch

if TYPE_CHECKING:
    from rapport.testing.inprocess import InProcess
    from rapport_local.infra import Infra

LOCKED_SECONDS = 15.0


def generation(process: InProcess) -> int:
    """Return the generation of the group that reads the contacts stream: rebalances count it."""
    consumer = process.running.consuming.runners[CONTACTS].consumer
    assert consumer is not None
    return int(consumer._coordinator.generation)


async def test_stopped_under_load_nothing_is_doubled(toys: Toys, infra: Infra) -> None:
    """Five restarts of a static member while purchases come in: once each, and no rebalance."""
    till = await toys.start("contacts", {})
    named = {"instance": "desk-1", "batch_size": 20}
    desk = await toys.start("loyalty", {PurchaseRecorded: enter}, settings=named)
    contacts = [uuid4() for _ in range(30)]
    first = generation(desk)
    count = 0
    for _ in range(5):
        for n in range(10):
            for contact in contacts:
                await lab.record(till.running.database, contact, [f"{count + n}"])
        count += 10
        await lab.entered(desk, (count - 9) * len(contacts))
        await desk.stop()
        desk = await toys.start("loyalty", {PurchaseRecorded: enter}, settings=named)
        assert generation(desk) == first
    await lab.entered(desk, count * len(contacts))
    for contact in contacts:
        assert await lab.orders_of(desk, contact) == [f"{n}" for n in range(count)]

    async def told() -> bool:
        return await lab.count_records(infra, LOYALTY) >= count * len(contacts)

    await until(told, "awards sent")
    awards = await lab.read_stream(infra, LOYALTY)
    assert len({e.id for e in awards}) == count * len(contacts)
    await lab.assert_nothing_parked(desk)


async def test_a_member_without_a_name_leaves(toys: Toys) -> None:
    """Without `instance` a stopped member leaves its group: the next one gets its partitions."""
    desk = await toys.start("loyalty", {PurchaseRecorded: enter})
    first = generation(desk)
    await desk.stop()
    desk = await toys.start("loyalty", {PurchaseRecorded: enter})
    assert generation(desk) > first


async def test_frozen_inside_its_transaction(toys: Toys) -> None:
    """Its locks on position and keys are gone within 15 s, and when it wakes it harms nothing."""
    till = await toys.start("contacts", {})
    desk = await toys.start("loyalty", {PurchaseRecorded: enter})
    frozen = await ToyProcess.start(toys, "loyalty", TOY_FREEZE="1")
    try:
        runner = desk.running.consuming.runners[CONTACTS]

        async def shared() -> bool:
            return 0 < len(runner.assigned) < PARTITIONS

        await until(shared, "the partitions are shared", 60)
        contacts = [lab.contact_in(partition) for partition in range(PARTITIONS)]
        orders = ["1", FREEZE, "3"]
        for contact in contacts:
            await lab.record(till.running.database, contact, orders)

        async def stopped() -> bool:
            return frozen.is_frozen()

        await until(stopped, "the other replica froze", 60)
        since = time.monotonic()
        await lab.entered(desk, 3 * PARTITIONS)
        seconds = time.monotonic() - since
        print(f"the other replica went on after {seconds:.1f} s")  # noqa: T201  a figure
        assert seconds < LOCKED_SECONDS

        frozen.send(signal.SIGCONT)
        later = [f"after-{n}" for n in range(20)]
        for contact in contacts:
            await lab.record(till.running.database, contact, later)
        await lab.entered(desk, 23 * PARTITIONS)
        for contact in contacts:
            assert await lab.orders_of(desk, contact) == orders + later
        rows = await fetch(desk, "select count(*), count(distinct event_id) from rapport.outbox")
        assert tuple(rows[0].values()) == (23 * PARTITIONS, 23 * PARTITIONS)
        await lab.assert_nothing_parked(desk)
    finally:
        await frozen.stop()
