"""What every event class has in common."""

from __future__ import annotations

from typing import Annotated, ClassVar
from uuid import UUID

import msgspec

CurrencyCode = Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$", description="ISO 4217")]
Minor = Annotated[int, msgspec.Meta(description="amount in minor units of the currency")]


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Body of an event on an internal stream.

    Subclasses name their CloudEvents type, ``rapport.<owner>.<event>.v<N>``. Unknown fields are
    ignored when decoding, so that a producer may add some within a version.
    """

    type: ClassVar[str]
    contact_id: UUID


def owner_of(event_type: str) -> str:
    """Service that owns a type: the second part of ``rapport.<owner>.<event>.v<N>``."""
    return event_type.split(".")[1]


def stream_of(service: str) -> str:
    """Topic of a service's ordered stream."""
    return f"{service}.events.v1"
