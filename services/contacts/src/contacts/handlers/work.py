"""What one transaction knows about its contacts, and what it will write at its end."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from functools import cache
from uuid import UUID
from zoneinfo import ZoneInfo

from contacts.domain import anniversary, timeline
from contacts.domain.consent import Decision
from contacts.domain.contact import Contact
from contacts.domain.purchase import Purchase, Refund, RefundWish, Remainder
from contacts.store import consent as consent_store
from contacts.store import contact as contact_store
from contacts.store import purchase as purchase_store
from contacts.store import refund as refund_store
from contacts.store import timeline as timeline_store
from rapport.contracts.base import Event
from rapport.contracts.contacts import ContactState
from rapport.messaging.delivery import Cause
from rapport.messaging.transaction import Timer, Tx

ANNIVERSARY = "anniversary"
PROGRAMME_ZONE = ZoneInfo("Europe/Prague")

zone_of = cache(ZoneInfo)


class Work:
    """The rows are read once, changed in memory in the order of events, and written together.

    So a list may hold any number of events of one contact, and costs a handful of statements. The
    keys of all contacts are locked before `load`.
    """

    def __init__(self, tx: Tx, zone: ZoneInfo = PROGRAMME_ZONE) -> None:
        """Begin with nothing; `zone` is the programme's."""
        self.tx = tx
        self.zone = zone
        self.contacts: dict[UUID, Contact] = {}
        self.remainders: dict[UUID, Remainder] = {}
        self.waiting: dict[UUID, list[RefundWish]] = {}
        self.settled: list[refund_store.Settled] = []
        self.refunds: list[Refund] = []
        self._saved_contacts: dict[UUID, Contact] = {}
        self._purchases: list[Purchase] = []
        self._decisions: list[tuple[UUID, UUID, Decision]] = []
        self._waiting: list[RefundWish] = []
        self._timers: dict[str, Timer] = {}
        self._facts: list[timeline_store.Entry] = []

    async def load(
        self,
        contacts: Collection[UUID],
        purchases: Collection[UUID] = (),
        awaited: Collection[UUID] = (),
    ) -> None:
        """Read records, what is left of named purchases, and refunds that wait for `awaited`."""
        self.contacts = await contact_store.find_contacts(self.tx, contacts)
        if purchases:
            self.remainders = await purchase_store.find_remainders(self.tx, purchases)
        if awaited:
            self.waiting = await refund_store.find_waiting(self.tx, awaited)

    def publish(self, event: Event, cause: Cause) -> UUID:
        """Publish an event and put it on the contact's timeline."""
        event_id = self.tx.publish(event, cause=cause)
        personal = isinstance(event, ContactState)
        details = timeline.details_of(event) if personal else self.tx.published[-1].body
        at = timeline.time_of(event, self.tx.now)
        self._facts.append(
            timeline_store.Entry(event_id, event.contact_id, at, event.type, details)
        )
        return event_id

    def put_contact(self, contact: Contact) -> None:
        """Keep a new or changed record."""
        self.contacts[contact.id] = self._saved_contacts[contact.id] = contact

    def add_decision(self, event_id: UUID, contact_id: UUID, decision: Decision) -> None:
        """Keep a permission given or withdrawn."""
        self._decisions.append((event_id, contact_id, decision))

    def add_purchase(self, purchase: Purchase, trace: str | None) -> None:
        """Keep a new purchase, and call back on its anniversaries when it cost anything."""
        self._purchases.append(purchase)
        self.remainders[purchase.id] = Remainder.whole(purchase)
        if purchase.net_minor > 0:
            name = self.contacts[purchase.contact_id].zone
            zone = zone_of(name) if name else self.zone
            purchased_on = purchase.occurred_at.astimezone(zone).date()
            day = anniversary.next_day(purchased_on, self.tx.now, zone)
            self.remember(purchase.contact_id, day, zone, trace)

    def remember(self, contact_id: UUID, day: date, zone: ZoneInfo, trace: str | None) -> None:
        """Set the timer of a contact's anniversary day."""
        due = anniversary.due_at(day, zone)
        key = f"{contact_id}:{day}"
        self._timers[key] = Timer(ANNIVERSARY, key, contact_id, due, {"date": str(day)}, trace)

    def add_waiting(self, wish: RefundWish) -> None:
        """Keep a refund until its purchase arrives."""
        self._waiting.append(wish)
        self.waiting.setdefault(wish.purchase_id, []).append(wish)

    async def save(self) -> None:
        """Write everything, one statement for each table."""
        tx = self.tx
        if self._saved_contacts:
            await contact_store.save_contacts(tx, list(self._saved_contacts.values()))
        if self._decisions:
            await consent_store.add_consents(tx, self._decisions)
        if self._purchases:
            await purchase_store.add_purchases(tx, self._purchases)
            await purchase_store.add_lines(tx, self._purchases)
        if self.refunds:
            await refund_store.add_refunds(tx, self.refunds)
            await refund_store.add_lines(tx, self.refunds)
        if self._waiting:
            await refund_store.add_waiting(tx, self._waiting)
        if self.settled:
            await refund_store.settle_waiting(tx, self.settled)
        if self._timers:
            await tx.schedule(list(self._timers.values()))
        if self._facts:
            await timeline_store.add_entries(tx, self._facts)
