"""What a fact leaves on a contact's timeline."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from rapport.contracts.base import Event
from rapport.contracts.contacts import ContactState

# A record's own events carry personal data; the timeline keeps what can be told without.
IMPERSONAL = ("provisional", "changed", "version", "registered_at")

_encoder = msgspec.json.Encoder()


def details_of(event: Event) -> str:
    """Return the event's body as JSON text, without personal data."""
    if not isinstance(event, ContactState):
        return _encoder.encode(event).decode()
    kept: dict[str, Any] = {name: getattr(event, name, ()) for name in IMPERSONAL}
    return _encoder.encode(kept).decode()


def time_of(event: Event, published_at: datetime) -> datetime:
    """Return when it happened: the fact's own time where it has one, else its publication."""
    occurred_at: datetime = getattr(event, "occurred_at", published_at)
    return occurred_at
