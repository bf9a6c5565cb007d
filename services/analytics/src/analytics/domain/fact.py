"""What analytics remembers of an event, for ever."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID


class Kind(StrEnum):
    """Which event a fact stands for."""

    PURCHASE = "purchase"
    REFUND = "refund"
    POINTS_PENDING = "points_pending"
    POINTS_AWARDED = "points_awarded"
    POINTS_REVERSED = "points_reversed"
    MESSAGE_SENT = "message_sent"
    MESSAGE_SUPPRESSED = "message_suppressed"
    ANNIVERSARY = "anniversary"
    CONTACT_REGISTERED = "contact_registered"
    CONTACT_MERGED = "contact_merged"


@dataclass(frozen=True, slots=True)
class Fact:
    """One event that counts.

    `subject_id` is what it is about: the purchase, the message, the other contact. `amount` is
    money in minor units of the reporting currency, or points; `original_minor` and `currency` are
    as paid.
    """

    event_id: UUID
    kind: Kind
    contact_id: UUID
    occurred_at: datetime
    subject_id: UUID | None = None
    amount: int | None = None
    original_minor: int | None = None
    currency: str | None = None
    details: dict[str, Any] | None = None
