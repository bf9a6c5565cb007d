"""Events of the analytics service."""

from __future__ import annotations

from datetime import date
from typing import ClassVar

from rapport.contracts.base import CurrencyCode, Event, Minor


class ProfileUpdated(Event, frozen=True, kw_only=True):
    """The purchaser's figures after a purchase or refund."""

    type: ClassVar = "rapport.analytics.profile-updated.v1"
    kept_purchases: int
    monetary_minor: Minor
    currency: CurrencyCode
    last_purchase_on: date | None = None


class SegmentEntered(Event, frozen=True, kw_only=True):
    """The contact now satisfies the segment's rule; once per crossing."""

    type: ClassVar = "rapport.analytics.segment-entered.v1"
    segment: str


class SegmentExited(Event, frozen=True, kw_only=True):
    """The contact no longer satisfies the segment's rule; once per crossing."""

    type: ClassVar = "rapport.analytics.segment-exited.v1"
    segment: str


EVENTS: tuple[type[Event], ...] = (ProfileUpdated, SegmentEntered, SegmentExited)
