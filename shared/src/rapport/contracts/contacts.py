"""Events of the contacts service. Only registered and updated carry personal data."""

from __future__ import annotations

from datetime import date, datetime
from typing import ClassVar
from uuid import UUID

import msgspec

from rapport.contracts.base import CurrencyCode, Event, Minor


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """A customer's number in another system."""

    system: str
    number: str


class ContactState(Event, frozen=True, kw_only=True):
    """The whole record as it stands after the change."""

    provisional: bool = False
    given_name: str | None = None
    family_name: str | None = None
    email: str | None = None
    phone: str | None = None
    birth_date: str | None = None
    language: str | None = None
    zone: str | None = None
    references: tuple[Reference, ...] = ()
    registered_at: datetime
    version: int = 1


class ContactRegistered(ContactState, frozen=True, kw_only=True):
    """A contact became known; `provisional` while only a reference number is."""

    type: ClassVar = "rapport.contacts.contact-registered.v1"


class ContactUpdated(ContactState, frozen=True, kw_only=True):
    """A contact's record changed; `changed` names the fields."""

    type: ClassVar = "rapport.contacts.contact-updated.v1"
    changed: tuple[str, ...] = ()


class ContactMerged(Event, frozen=True, kw_only=True):
    """`loser_id` is from now on another name of `survivor_id`; published to both keys."""

    type: ClassVar = "rapport.contacts.contact-merged.v1"
    loser_id: UUID
    survivor_id: UUID


class ConsentChanged(Event, frozen=True, kw_only=True):
    """A permission for one purpose and channel was given or withdrawn."""

    type: ClassVar = "rapport.contacts.consent-changed.v1"
    purpose: str
    channel: str
    granted: bool
    wording_version: str
    recipient: str
    decided_at: datetime


class PurchaseLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line; `net_minor` is without tax and shipping."""

    line: str
    sku: str
    quantity: int
    net_minor: Minor
    tax_minor: Minor = 0
    category: str | None = None
    excluded: bool = False


class PurchaseRecorded(Event, frozen=True, kw_only=True):
    """A contact paid for something. Amounts are in minor units of `currency`."""

    type: ClassVar = "rapport.contacts.purchase-recorded.v1"
    purchase_id: UUID
    source: str
    order: str
    occurred_at: datetime
    currency: CurrencyCode
    lines: tuple[PurchaseLine, ...]
    shipping_minor: Minor = 0
    shop: str | None = None


class RefundedLine(msgspec.Struct, frozen=True, kw_only=True):
    """What was given back of one line by this refund, net of tax."""

    line: str
    net_minor: Minor


class PurchaseRefunded(Event, frozen=True, kw_only=True):
    """Money of an earlier purchase was given back, per line."""

    type: ClassVar = "rapport.contacts.purchase-refunded.v1"
    refund_id: UUID
    purchase_id: UUID
    source: str
    order: str
    occurred_at: datetime
    currency: CurrencyCode
    lines: tuple[RefundedLine, ...]


class RememberedPurchase(msgspec.Struct, frozen=True, kw_only=True):
    """A purchase whose anniversary it is."""

    purchase_id: UUID
    purchased_on: date
    first_kept: bool


class AnniversaryDue(Event, frozen=True, kw_only=True):
    """Years ago today, in the contact's zone, the contact made these kept purchases."""

    type: ClassVar = "rapport.contacts.anniversary-due.v1"
    local_date: date
    purchases: tuple[RememberedPurchase, ...]


EVENTS: tuple[type[Event], ...] = (
    ContactRegistered,
    ContactUpdated,
    ContactMerged,
    ConsentChanged,
    PurchaseRecorded,
    PurchaseRefunded,
    AnniversaryDue,
)
