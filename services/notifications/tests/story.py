"""Events of one test, and the way in which a runner brings them to the handlers."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from notifications.handlers import HANDLERS
from rapport.contracts.base import Event
from rapport.contracts.contacts import (
    AnniversaryDue,
    ConsentChanged,
    ContactRegistered,
    PurchaseLine,
    PurchaseRecorded,
    RememberedPurchase,
)
from rapport.database import Database
from rapport.messaging.delivery import Delivery
from rapport.messaging.ids import derived_id
from rapport.messaging.transaction import ADD_KEYS, Tx
from rapport.testing import deliver

NOW = datetime(1998, 1, 15, 11, tzinfo=UTC)
NAME = "Žofie Testová"


class Story:
    """Events of one test, and the way in which a runner brings them to the handlers."""

    @staticmethod
    def contact(number: int) -> UUID:
        """Return the id of the test's n-th contact."""
        return derived_id("contact", "test", number)

    def address(self, number: int) -> str:
        """Return the n-th contact's address."""
        return f"customer-{number}@shop.example"

    def registered(
        self, number: int, email: str | None = "", *, version: int = 1, language: str | None = None
    ) -> Delivery[ContactRegistered]:
        """Return a registration; with the contact's usual address unless one is given."""
        event = ContactRegistered(
            contact_id=self.contact(number),
            given_name=NAME,
            email=self.address(number) if email == "" else email,
            language=language,
            registered_at=NOW,
            version=version,
        )
        return deliver(event)

    def consent(
        self, number: int, *, granted: bool = True, at: datetime = NOW
    ) -> Delivery[ConsentChanged]:
        """Return a decision about marketing by e-mail."""
        event = ConsentChanged(
            contact_id=self.contact(number),
            purpose="marketing",
            channel="email",
            granted=granted,
            wording_version="1",
            recipient="Rapport",
            decided_at=at,
        )
        return deliver(event, time=at)

    def purchase(
        self, number: int, order: str, *net_minor: int, age: timedelta = timedelta(hours=1)
    ) -> Delivery[PurchaseRecorded]:
        """Return a purchase of one line per amount; of 12.34 USD unless amounts are given."""
        lines = tuple(
            PurchaseLine(line=str(n), sku="cd", quantity=1, net_minor=net)
            for n, net in enumerate(net_minor or (1234,), 1)
        )
        event = PurchaseRecorded(
            contact_id=self.contact(number),
            purchase_id=derived_id("purchase", "test", order),
            source="test",
            order=order,
            occurred_at=NOW - age,
            currency="USD",
            lines=lines,
        )
        return deliver(event)

    def anniversary(
        self, number: int, order: str, *, first_kept: bool = True, year: int = 1998
    ) -> Delivery[AnniversaryDue]:
        """Return the anniversary of a purchase made on 15 January 1997."""
        remembered = RememberedPurchase(
            purchase_id=derived_id("purchase", "test", order),
            purchased_on=date(1997, 1, 15),
            first_kept=first_kept,
        )
        event = AnniversaryDue(
            contact_id=self.contact(number),
            local_date=date(year, 1, 15),
            purchases=(remembered,),
        )
        return deliver(event)

    async def handle(self, tx: Tx, *deliveries: Delivery[Any]) -> None:
        """Give runs of one type to their handler, in order, with their keys locked."""
        ids = {delivery.contact_id for delivery in deliveries}
        ids |= {getattr(d.event, "loser_id", d.contact_id) for d in deliveries}
        await tx.execute(ADD_KEYS, list(ids))
        await tx.lock_keys(ids)
        batch: list[Delivery[Event]] = []
        for delivery in deliveries:
            if batch and type(batch[0].event) is not type(delivery.event):
                await HANDLERS[type(batch[0].event)](batch, tx)
                batch = []
            batch.append(delivery)
        if batch:
            await HANDLERS[type(batch[0].event)](batch, tx)

    async def commit(self, into: Database, *deliveries: Delivery[Any]) -> None:
        """Handle events in a transaction of their own."""
        await into.transact(lambda tx: self.handle(tx, *deliveries))

    async def messages(self, at: Tx | Database) -> list[dict[str, Any]]:
        """Return all message rows, by id."""
        sql = "select * from message order by id"
        if isinstance(at, Tx):
            return [dict(row) for row in await at.fetch(sql)]
        async with at.read() as tx:
            return [dict(row) for row in await tx.fetch(sql)]

    async def outbox(self, at: Database) -> list[str]:
        """Return the short types of committed events, in their order."""
        async with at.read() as tx:
            rows = await tx.fetch("select type from rapport.outbox order by number")
        return [row["type"].split(".")[2] for row in rows]
