"""What handlers are given, and what they may name as a cause."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from rapport.contracts.base import Event
from rapport.messaging.ids import derived_id, drawn_id

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

E = TypeVar("E", bound=Event)


class Cause(Protocol):
    """Something that events come from: a delivery, a command or a timer."""

    @property
    def cause_id(self) -> UUID:
        """Identifier from which the ids of caused events are derived."""
        ...

    @property
    def cause_key(self) -> UUID | None:
        """Ordering key of the cause, as it was published."""
        ...

    @property
    def causal_entry(self) -> str | None:
        """`stream:partition:epoch:number` of a cause that came by a stream."""
        ...

    @property
    def trace(self) -> str | None:
        """W3C traceparent that caused events continue."""
        ...


@dataclass(slots=True, eq=False)
class Delivery(Generic[E]):
    """One event as its handler sees it.

    `contact_id` is the canonical key (the survivor after a merge), `id` the event's id, `time` its
    `ce_time`; `event` is the decoded body.
    """

    id: UUID
    type: str
    contact_id: UUID
    cause_key: UUID
    time: datetime
    event: E
    causal_entry: str | None = None
    trace: str | None = None

    @property
    def cause_id(self) -> UUID:
        """The event's own id: what it causes is derived from it."""
        return self.id


@dataclass(frozen=True, slots=True)
class Command:
    """A request through the API, or an external event; `id` is drawn or derived by the caller."""

    id: UUID
    key: UUID | None = None
    trace: str | None = None

    @property
    def cause_id(self) -> UUID:
        """The command's id."""
        return self.id

    @property
    def cause_key(self) -> UUID | None:
        """A command's key: the contact it is about, if it is about one."""
        return self.key

    @property
    def causal_entry(self) -> str | None:
        """Commands did not come by a stream."""
        return None

    @classmethod
    def drawn(cls, key: UUID | None = None, trace: str | None = None) -> Command:
        """Return a command of the API with a new UUIDv7."""
        return cls(drawn_id(), key, trace)

    @classmethod
    def external(cls, source: str, source_id: str, trace: str | None = None) -> Command:
        """Return an external event's command; the same (source, id) gives the same id."""
        return cls(derived_id("external", source, source_id), None, trace)


@dataclass(frozen=True, slots=True)
class TimerDue:
    """A timer whose time has come. `payload` is what was scheduled with it."""

    kind: str
    key: str
    contact_id: UUID
    due_at: datetime
    payload: dict[str, Any]
    trace: str | None = None

    @property
    def cause_id(self) -> UUID:
        """Derived from kind, key and instant: a run that is repeated gives the same events.

        The same (kind, key), scheduled again for another instant, gives events of its own.
        """
        return derived_id("timer", self.kind, self.key, self.due_at.astimezone(UTC).isoformat())

    @property
    def cause_key(self) -> UUID | None:
        """The timer's contact."""
        return self.contact_id

    @property
    def causal_entry(self) -> str | None:
        """Timers did not come by a stream."""
        return None
