"""Use cases of contacts. External events come in by `handlers.inbound.accept`."""

from __future__ import annotations

from contacts.handlers.timeline import add_to_timeline
from rapport.contracts import analytics, loyalty, notifications
from rapport.messaging.handler import Handlers

HANDLERS: Handlers = {
    event: add_to_timeline
    for module in (loyalty, notifications, analytics)
    for event in module.EVENTS
}
