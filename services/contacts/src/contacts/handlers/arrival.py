"""An external event on its way in, and what it led to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Literal, NamedTuple, TypeVar
from uuid import UUID

from contacts.domain.contact import Contact
from contacts.handlers import people
from contacts.handlers.work import Work
from rapport.contracts.inbound import ExternalEvent
from rapport.messaging.delivery import Command
from rapport.messaging.ids import derived_id
from rapport.messaging.inbox import External

F_co = TypeVar("F_co", bound=ExternalEvent, covariant=True)


@dataclass(slots=True)
class Arrival(Generic[F_co]):
    """A valid event of a registered source. `contact_id` is canonical once the keys are locked."""

    event: External
    fact: F_co
    reference: tuple[str, str]
    contact_id: UUID
    purchase_id: UUID | None
    cause: Command

    def happened_at(self, now: datetime) -> datetime:
        """When it happened by the sender's clock, which is not believed about the future."""
        return min(self.event.time or now, now)

    def contact(self, work: Work) -> Contact:
        """Return the record, made provisionally when the reference was unknown."""
        at = self.happened_at(work.tx.now)
        return people.ensure_contact(work, self.contact_id, self.reference, self.cause, at)


def arrive(event: External, fact: ExternalEvent, system: str) -> Arrival[ExternalEvent]:
    """Derive what an event stands for; a known reference overrides the contact id."""
    order = getattr(fact, "order", None)
    return Arrival(
        event=event,
        fact=fact,
        reference=(system, fact.customer),
        contact_id=derived_id("contact", system, fact.customer),
        purchase_id=None if order is None else derived_id("purchase", event.source, order),
        cause=Command.external(event.source, event.id, event.trace),
    )


class Effect(NamedTuple):
    """What an event led to: our own event, if any; `duplicate` when the fact was known before."""

    event_id: UUID | None
    status: Literal["accepted", "duplicate"] = "accepted"
