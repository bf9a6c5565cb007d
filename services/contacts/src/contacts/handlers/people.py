"""Records and permissions: what events and requests do to a contact."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from contacts.domain.consent import Decision
from contacts.domain.contact import Contact
from contacts.handlers.work import Work
from rapport.messaging.delivery import Cause


def add_contact(work: Work, contact: Contact, cause: Cause) -> UUID:
    """Make a record; return the id of its event."""
    work.put_contact(contact)
    return work.publish(contact.registered(), cause)


def update_contact(
    work: Work,
    contact: Contact,
    details: Mapping[str, Any],
    cause: Cause,
    *,
    completes: bool = False,
) -> UUID | None:
    """Change a record; return the id of the event, None when nothing changed."""
    revised, changed = contact.revised(details, completes=completes)
    if not changed:
        return None
    work.put_contact(revised)
    return work.publish(revised.updated(changed), cause)


def change_consent(work: Work, contact_id: UUID, decision: Decision, cause: Cause) -> UUID:
    """Record a permission given or withdrawn; return the id of the event."""
    event_id = work.publish(decision.changed(contact_id), cause)
    work.add_decision(event_id, contact_id, decision)
    return event_id


def ensure_contact(
    work: Work, contact_id: UUID, reference: tuple[str, str], cause: Cause, at: datetime
) -> Contact:
    """Return the record, a provisional one when only the reference is known."""
    if contact_id not in work.contacts:
        contact = Contact(
            id=contact_id, registered_at=at, provisional=True, references=(reference,)
        )
        add_contact(work, contact, cause)
    return work.contacts[contact_id]
