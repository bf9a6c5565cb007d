"""All event classes by type, and the services by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rapport.contracts import analytics, contacts, loyalty, notifications
from rapport.contracts.base import stream_of

if TYPE_CHECKING:
    from rapport.contracts.base import Event

SERVICES = ("contacts", "loyalty", "notifications", "analytics")
STREAMS = tuple(stream_of(service) for service in SERVICES)
INBOUND = "inbound.events.v1"
TOPICS = (*STREAMS, INBOUND)

EVENT_TYPES: dict[str, type[Event]] = {
    event.type: event
    for module in (contacts, loyalty, notifications, analytics)
    for event in module.EVENTS
}
