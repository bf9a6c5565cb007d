"""Events of the notifications service. They name messages, never addresses."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from rapport.contracts.base import Event


class Message(Event, frozen=True, kw_only=True):
    """What all message events say: which rule wrote about which subject on which channel."""

    message_id: UUID
    rule: str
    channel: str
    about_id: UUID | None = None


class MessageQueued(Message, frozen=True, kw_only=True):
    """Every gate let the message pass; it waits for its hand-over."""

    type: ClassVar = "rapport.notifications.message-queued.v1"


class MessageSent(Message, frozen=True, kw_only=True):
    """The provider accepted the message; `consent_event_id` allowed it where one was needed."""

    type: ClassVar = "rapport.notifications.message-sent.v1"
    attempts: int = 1
    consent_event_id: UUID | None = None


class MessageSuppressed(Message, frozen=True, kw_only=True):
    """The message will not be sent, for this reason."""

    type: ClassVar = "rapport.notifications.message-suppressed.v1"
    reason: str


class PreferenceChanged(Event, frozen=True, kw_only=True):
    """The contact wants, or no longer wants, a category of messages on a channel."""

    type: ClassVar = "rapport.notifications.preference-changed.v1"
    category: str
    channel: str
    wanted: bool


EVENTS: tuple[type[Event], ...] = (
    MessageQueued,
    MessageSent,
    MessageSuppressed,
    PreferenceChanged,
)
