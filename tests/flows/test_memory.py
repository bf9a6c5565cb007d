"""Queues are bounded in bytes as well: what is large waits in Kafka, not in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rapport.contracts.contacts import PurchaseRecorded
from rapport.messaging.reading import QUEUE_BYTES
from rapport.testing.inprocess import until
from tests.flows import lab
from tests.flows.faults import rejected_of
from tests.flows.lab import CONTACTS
from tests.flows.test_rejection import put
from tests.flows.toys import Toys, enter

if TYPE_CHECKING:
    from rapport_local.infra import Infra


async def test_large_records_fill_a_queue_early(toys: Toys, infra: Infra) -> None:
    """A queue is bounded in bytes too: 30 records of 900 kB wait in Kafka, not in memory."""
    desk = await toys.start("loyalty", {PurchaseRecorded: enter})
    runner = desk.running.consuming.runners[CONTACTS]
    release = lab.hold(runner, "_step")
    for _ in range(30):
        await put(infra, CONTACTS, 0, {}, b"x" * 900_000)

    async def paused() -> bool:
        return runner.backlogs[0].paused

    await until(paused, "the partition is paused")
    assert runner.backlogs[0].bytes < QUEUE_BYTES + 2_000_000
    release()

    async def rejected() -> bool:
        return len(await rejected_of(desk)) == 30

    await until(rejected, "all are rejected, and reading went on")
