"""Handlers whose behaviour a test can change, and the ops endpoints of a running toy."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx

from rapport.contracts.contacts import PurchaseRecorded
from rapport.contracts.loyalty import PointsAwarded
from rapport.contracts.notifications import MessageQueued
from rapport.messaging.delivery import Delivery
from rapport.messaging.handler import several_per_contact, touches
from rapport.messaging.transaction import Tx
from rapport.testing.inprocess import until
from tests.flows.toys import ADD, fetch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

    import asyncpg

    from rapport.messaging.handler import Handler
    from rapport.testing.inprocess import InProcess

PARKED = "select * from rapport.parked_event order by id"
REJECTED = "select * from rapport.rejected_record order by id"
PER_PURCHASE = ":"


class Poison(Exception):  # noqa: N818  a toy's own
    """What a handler raises for data that it cannot take."""


async def refuse(_tx: Tx) -> None:
    """Fail as a handler's own exception."""
    raise Poison("the toy does not like this")


def raise_state(sqlstate: str) -> Callable[[Tx], Awaitable[None]]:
    """Return an act that fails inside Postgres with this SQLSTATE."""

    async def act(tx: Tx) -> None:
        await tx.execute(f"do $$ begin raise exception 'toy' using errcode = '{sqlstate}'; end $$")

    return act


@dataclass
class Fault:
    """Stands before a handler: acts when the list is long, for some contacts, or always."""

    contacts: set[UUID] = field(default_factory=set)
    always: bool = False
    above: int | None = None
    act: Callable[[Tx], Awaitable[None]] = refuse
    sizes: list[int] = field(default_factory=list)

    @property
    def calls(self) -> int:
        """How often the handler was called."""
        return len(self.sizes)

    def mend(self) -> None:
        """Let everything pass from now on."""
        self.contacts = set()
        self.always, self.above = False, None

    def strikes(self, deliveries: Sequence[Delivery[Any]]) -> bool:
        """Tell whether this call is to fail."""
        return (
            self.always
            or (self.above is not None and len(deliveries) > self.above)
            or any(d.contact_id in self.contacts for d in deliveries)
        )

    def before(self, handler: Handler) -> Handler:
        """Return the handler with the fault before it."""

        @several_per_contact
        async def faulty(deliveries: Sequence[Delivery[Any]], tx: Tx) -> None:
            self.sizes.append(len(deliveries))
            if self.strikes(deliveries):
                await self.act(tx)
            await handler(deliveries, tx)

        return faulty


def referrer_of(purchase: Delivery[PurchaseRecorded]) -> UUID | None:
    """Return the contact that an order `…:<uuid>` names besides its own."""
    _, found, referrer = purchase.event.order.partition(PER_PURCHASE)
    return UUID(referrer) if found else None


async def find_referrers(purchases: Sequence[Delivery[PurchaseRecorded]], _tx: Tx) -> set[UUID]:
    """Name the further contacts that `award_both` writes for."""
    return {r for p in purchases if (r := referrer_of(p)) is not None}


@touches(find_referrers)
async def award_both(purchases: Sequence[Delivery[PurchaseRecorded]], tx: Tx) -> None:
    """Enter each purchase; award its contact and the one who referred it."""
    amounts = [p.event.lines[0].net_minor for p in purchases]
    notes = [p.event.order for p in purchases]
    contacts = [p.contact_id for p in purchases]
    await tx.execute(ADD, contacts, [p.id for p in purchases], notes, amounts)
    for p, amount in zip(purchases, amounts, strict=True):
        for contact in (p.contact_id, referrer_of(p)):
            if contact is not None:
                award = PointsAwarded(
                    contact_id=contact, purchase_id=p.event.purchase_id, points=amount
                )
                tx.publish(award, cause=p)


@several_per_contact
async def thank(purchases: Sequence[Delivery[PurchaseRecorded]], tx: Tx) -> None:
    """Enter each purchase, and queue a message about it."""
    amounts = [p.event.lines[0].net_minor for p in purchases]
    notes = [p.event.order for p in purchases]
    contacts = [p.contact_id for p in purchases]
    await tx.execute(ADD, contacts, [p.id for p in purchases], notes, amounts)
    for p in purchases:
        message = MessageQueued(
            contact_id=p.contact_id, message_id=p.id, rule="toy", channel="email"
        )
        tx.publish(message, cause=p)


@asynccontextmanager
async def ops_of(process: InProcess) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of the ops application of a running toy."""
    transport = httpx.ASGITransport(process.running.serving.ops)
    async with httpx.AsyncClient(transport=transport, base_url="http://ops") as client:
        yield client


async def parked_of(process: InProcess) -> list[asyncpg.Record]:
    """Return what is parked, in arrival order."""
    return await fetch(process, PARKED)


async def rejected_of(process: InProcess) -> list[asyncpg.Record]:
    """Return what was rejected, in arrival order."""
    return await fetch(process, REJECTED)


async def parked_contacts(process: InProcess) -> set[UUID]:
    """Return the contacts whose key is marked."""
    return {row["id"] for row in await fetch(process, "select id from rapport.key where parked")}


async def until_parked(process: InProcess, count: int) -> list[asyncpg.Record]:
    """Wait until so many events are parked, and return them."""

    async def enough() -> bool:
        return len(await parked_of(process)) >= count

    await until(enough, f"{count} parked events", 30)
    return await parked_of(process)


async def until_called(fault: Fault, calls: int) -> None:
    """Wait until the handler was called so often."""

    async def enough() -> bool:
        return fault.calls >= calls

    await until(enough, f"{calls} calls", 30)


async def audits(process: InProcess) -> list[tuple[str, str, str, str]]:
    """Return who did what to whom, with which outcome."""
    rows = await fetch(
        process, "select actor, action, subject, outcome from rapport.audit order by id"
    )
    return [tuple(row.values()) for row in rows]


async def tables(process: InProcess, names: Iterable[str]) -> dict[str, list[str]]:
    """Return whole tables as text, to be compared."""
    return {
        name: sorted(
            row[0]
            for row in await fetch(process, f"select to_jsonb(t)::text from {name} t")  # noqa: S608
        )
        for name in names
    }
