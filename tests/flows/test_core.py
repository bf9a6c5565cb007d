"""The core's promises on two toy services."""

from __future__ import annotations

from uuid import uuid4

from rapport.contracts.contacts import PurchaseRecorded
from rapport.contracts.loyalty import PointsAwarded
from rapport.testing.inprocess import until
from tests.flows.toys import Toys, buy, enter, fetch, note, points


async def test_purchases_flow_and_come_back(toys: Toys) -> None:
    till = await toys.start("contacts", {PointsAwarded: note})
    book = await toys.start("loyalty", {PurchaseRecorded: enter})
    contacts = [uuid4() for _ in range(20)]
    for contact in contacts:
        await buy(till, contact, [100, 20, 3])

    async def all_noted() -> bool:
        rows = await fetch(till, "select count(*), sum(points) from book")
        return bool(rows[0][0] == 20 and rows[0][1] == 20 * 123)

    await until(all_noted, "awards noted")
    for contact in contacts:
        assert await points(book, contact) == 123
