"""What requests do: register a contact, change it, record a decision."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from contacts.domain.consent import Decision
from contacts.domain.contact import Contact
from contacts.domain.refusal import RefusedError
from contacts.handlers import people
from contacts.handlers.work import Work
from contacts.store import contact as contact_store
from contacts.store import reference as reference_store
from contacts.store import source as source_store
from rapport.messaging.delivery import Command
from rapport.messaging.transaction import Tx


class ReferenceTakenError(Exception):
    """The number belongs to a contact that is known already."""


async def register_contact(
    tx: Tx,
    command: Command,
    details: Mapping[str, Any],
    references: Collection[tuple[str, str]],
) -> Contact:
    """Make a record with the command's key as its id.

    Raises ReferenceTakenError, and RefusedError for a reference system that no source uses.
    """
    contact_id = command.id if command.key is None else command.key
    wanted = dict.fromkeys(sorted(references), contact_id)
    if wanted:
        if await source_store.find_unknown_systems(tx, [system for system, _ in wanted]):
            raise RefusedError("references", "a system is not registered by any source")
        if len(await reference_store.add_references(tx, wanted)) < len(wanted):
            raise ReferenceTakenError("a number belongs to another contact")
    await tx.lock_keys([contact_id])
    work = Work(tx)
    contact = Contact(
        id=contact_id, registered_at=tx.now, references=tuple(wanted), **dict(details)
    )
    people.add_contact(work, contact, command)
    await work.save()
    return contact


async def find_locked(tx: Tx, contact_id: UUID) -> Contact | None:
    """Lock a contact's key and return the record, the survivor's after a merge.

    Looked up before the lock too: an unknown id must not leave a key row.
    """
    if await contact_store.find_contact(tx, contact_id) is None:
        return None
    canonical = (await tx.lock_keys([contact_id]))[contact_id]
    return (await contact_store.find_contacts(tx, [canonical])).get(canonical)


async def update_contact(
    tx: Tx, command: Command, contact: Contact, details: Mapping[str, Any]
) -> Contact:
    """Change a locked record; return it as it stands now."""
    work = Work(tx)
    work.contacts[contact.id] = contact
    people.update_contact(work, contact, details, command)
    await work.save()
    return work.contacts[contact.id]


async def change_consent(tx: Tx, command: Command, contact: Contact, decision: Decision) -> UUID:
    """Record a decision of a locked contact; return the id of its event."""
    work = Work(tx)
    event_id = people.change_consent(work, contact.id, decision, command)
    await work.save()
    return event_id
