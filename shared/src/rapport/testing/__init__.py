"""Helpers for tests, also of other teams' publishers and subscribers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from rapport.contracts.base import Event
from rapport.messaging.delivery import Delivery
from rapport.messaging.ids import derived_id

if TYPE_CHECKING:
    from uuid import UUID

E = TypeVar("E", bound=Event)
DEFAULT_TIME = datetime(2026, 3, 2, 10, tzinfo=UTC)


def deliver(
    event: E, *, event_id: UUID | None = None, time: datetime = DEFAULT_TIME
) -> Delivery[E]:
    """Wrap an event as its handler would get it; equal events get equal ids unless one is given."""
    return Delivery(
        id=event_id or derived_id("test", event),
        type=event.type,
        contact_id=event.contact_id,
        cause_key=event.contact_id,
        time=time,
        event=event,
    )
