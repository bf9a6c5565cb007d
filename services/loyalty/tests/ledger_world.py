"""A member's world for the tests: what happens, in an order of choice, to the real handlers."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from loyalty import store
from loyalty.domain.records import Redemption
from loyalty.domain.redemption import balance_now
from loyalty.handlers import HANDLERS, TIMERS
from loyalty.handlers import redemptions as spends
from rapport.contracts.contacts import (
    ContactMerged,
    ContactRegistered,
    PurchaseLine,
    PurchaseRecorded,
    PurchaseRefunded,
    RefundedLine,
)
from rapport.messaging import alias
from rapport.messaging.delivery import Command, Delivery, TimerDue
from rapport.messaging.ids import derived_id
from rapport.messaging.transaction import ADD_KEYS, Published, Tx
from rapport.pgtypes import Connection
from rapport.testing import deliver


def contact(number: int) -> UUID:
    """Name a contact."""
    return derived_id("contact", number)


def registered(number: int, at: datetime) -> Delivery[Any]:
    """Make a registration."""
    return deliver(ContactRegistered(contact_id=contact(number), registered_at=at), time=at)


def purchase(
    name: str, member: int, at: datetime, *lines: int, excluded: Sequence[int] = ()
) -> Delivery[Any]:
    """Make a purchase with lines of these nets."""
    event = PurchaseRecorded(
        contact_id=contact(member),
        purchase_id=derived_id("purchase", name),
        source="till",
        order=name,
        occurred_at=at,
        currency="USD",
        lines=tuple(
            PurchaseLine(line=str(n), sku="s", quantity=1, net_minor=net, excluded=n in excluded)
            for n, net in enumerate(lines)
        ),
    )
    return deliver(event, event_id=derived_id("event", name), time=at)


def refund(
    name: str, member: int, at: datetime, lines: dict[int, int], number: int = 0
) -> Delivery[Any]:
    """Make a refund of so much net by line."""
    event = PurchaseRefunded(
        contact_id=contact(member),
        refund_id=derived_id("refund", name, number),
        purchase_id=derived_id("purchase", name),
        source="till",
        order=name,
        occurred_at=at,
        currency="USD",
        lines=tuple(RefundedLine(line=str(n), net_minor=net) for n, net in lines.items()),
    )
    return deliver(event, event_id=derived_id("refund event", name, number), time=at)


def merged(loser: int, survivor: int, at: datetime) -> list[Delivery[Any]]:
    """Make both records of a merge as they arrive: the loser's first, both canonical."""
    event = ContactMerged(
        contact_id=contact(survivor), loser_id=contact(loser), survivor_id=contact(survivor)
    )
    return [
        Delivery(
            derived_id("merge", loser, survivor, key),
            event.type,
            contact(survivor),
            key,
            at,
            event,
        )
        for key in (contact(loser), contact(survivor))
    ]


@dataclass
class World:
    """Runs batches as the runner does, but within the caller's transaction; keeps what they say."""

    connection: Connection
    now: datetime
    published: list[Published] = field(default_factory=list)
    spends: int = 0

    async def deliver(self, *deliveries: Delivery[Any]) -> list[Published]:
        """Apply one batch: runs of the same type go to their handler as one list."""
        contacts = {d.contact_id for d in deliveries}
        merges = [d.event for d in deliveries if isinstance(d.event, ContactMerged)]
        contacts |= {name for merge in merges for name in await self._names(merge.loser_id)}
        tx = await self._begin(contacts)
        run: list[Delivery[Any]] = []
        for delivery in [*deliveries, None]:
            if run and (delivery is None or delivery.type != run[0].type):
                if run[0].type == ContactMerged.type:
                    await alias.join(tx, run[0].event.loser_id, run[0].event.survivor_id)
                await HANDLERS[type(run[0].event)](run, tx)
                run = []
            if delivery is not None:
                run.append(delivery)
        self.published += tx.published
        return tx.published

    async def advance(self, now: datetime) -> list[Published]:
        """Move the clock and fire what is due, at most one timer a contact in a list."""
        self.now = max(now, self.now)
        said: list[Published] = []
        while due := await self._take_due():
            by_kind = defaultdict(list)
            for timer in due:
                by_kind[timer.kind].append(timer)
            for kind, timers in by_kind.items():
                tx = await self._begin({t.contact_id for t in timers})
                await TIMERS[kind](timers, tx)
                said += tx.published
        self.published += said
        return said

    async def spend(self, member: int, points: int) -> int:
        """Spend up to so many active points of a member; return how many were accepted."""
        redemption_id = await self.hold(member, points)
        if redemption_id is None:
            return 0
        return await self.capture(redemption_id)

    async def hold(self, member: int, points: int) -> UUID | None:
        """Hold up to so many active points of a member; return the redemption's id, if any."""
        tx = await self._begin({contact(member)})
        owner = tx.locked[contact(member)]
        books = await store.list_books(tx, [owner])
        accepted = min(points, balance_now(books[owner]).spendable)
        if accepted == 0:
            return None
        command = self._command(owner)
        redemption = await spends.authorise_points(tx, command, owner, accepted, None)
        self.published += tx.published
        return redemption.id

    async def capture(self, redemption_id: UUID, points: int | None = None) -> int:
        """Capture a hold; return how many points."""
        tx, found = await self._find(redemption_id)
        command = self._command(found.contact_id)
        captured = await spends.capture_points(tx, command, found, points)
        self.published += tx.published
        return captured.captured

    async def release(self, redemption_id: UUID) -> list[Published]:
        """Release a hold."""
        tx, found = await self._find(redemption_id)
        await spends.release_points(tx, self._command(found.contact_id), found)
        self.published += tx.published
        return tx.published

    async def reverse(self, redemption_id: UUID) -> list[Published]:
        """Undo a captured spend."""
        tx, found = await self._find(redemption_id)
        await spends.reverse_redemption(tx, self._command(found.contact_id), found)
        self.published += tx.published
        return tx.published

    async def _find(self, redemption_id: UUID) -> tuple[Tx, Redemption]:
        found = await store.find_redemption(Tx(self.connection, self.now), redemption_id)
        assert found is not None
        return await self._begin({found.contact_id}), found

    def _command(self, owner: UUID) -> Command:
        self.spends += 1
        return Command(derived_id("command", self.spends), owner)

    async def balance(self, member: int) -> dict[str, int]:
        """Read a member's balance from the journal's lines alone."""
        rows = await self.connection.fetch(
            "select account, sum(points)::bigint from journal_line where contact_id = $1"
            " group by account",
            contact(member),
        )
        found = {"pending": 0, "active": 0, "held": 0, "debt": 0}
        found |= {row[0]: row[1] for row in rows}
        return found | {"debt": -found["debt"]}

    async def _names(self, key: UUID) -> set[UUID]:
        rows = await self.connection.fetch("select id from rapport.key where survivor = $1", key)
        return {key, *(row["id"] for row in rows)}

    async def _begin(self, contacts: set[UUID]) -> Tx:
        await self.connection.execute(ADD_KEYS, sorted(contacts))
        tx = Tx(self.connection, self.now)
        locked = await tx.lock_keys(contacts)
        assert contacts <= locked.keys()
        return tx

    async def _take_due(self) -> list[TimerDue]:
        rows = await self.connection.fetch(
            """
            delete from rapport.timer where id in (
                select distinct on (contact_id) id from rapport.timer where due_at <= $1
                order by contact_id, due_at, id)
            returning kind, key, contact_id, due_at, payload, id
            """,
            self.now,
        )
        rows = sorted(rows, key=lambda row: (row["due_at"], row["id"]))
        return [TimerDue(*tuple(row)[:5]) for row in rows]
