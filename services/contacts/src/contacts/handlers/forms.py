"""External events about the person: registration, update, permissions."""

from __future__ import annotations

from typing import Any

from contacts.domain.consent import Decision
from contacts.domain.contact import DETAILS, Contact
from contacts.handlers import people
from contacts.handlers.arrival import Arrival, Effect
from contacts.handlers.work import Work
from rapport.contracts import inbound


def register(arrival: Arrival[inbound.ContactRegistered], work: Work) -> Effect:
    """Make the record, complete a provisional one, or update a known one; then the consents."""
    contact = work.contacts.get(arrival.contact_id)
    at = arrival.happened_at(work.tx.now)
    details = _given(arrival.fact)
    if contact is None:
        contact = Contact(
            id=arrival.contact_id, registered_at=at, references=(arrival.reference,), **details
        )
        event_id: Any = people.add_contact(work, contact, arrival.cause)
    else:
        event_id = people.update_contact(work, contact, details, arrival.cause, completes=True)
    for consent in arrival.fact.consents:
        decision = Decision(granted=True, decided_at=at, **consent.model_dump())
        changed = people.change_consent(work, arrival.contact_id, decision, arrival.cause)
        event_id = event_id or changed
    return Effect(event_id)


def update(arrival: Arrival[inbound.ContactUpdated], work: Work) -> Effect:
    """Change what the event names; an absent field and null mean unchanged."""
    contact = arrival.contact(work)
    return Effect(people.update_contact(work, contact, _given(arrival.fact), arrival.cause))


def give_consent(arrival: Arrival[inbound.ConsentGiven], work: Work) -> Effect:
    """Record a permission."""
    return _decide(arrival, work, granted=True)


def withdraw_consent(arrival: Arrival[inbound.ConsentWithdrawn], work: Work) -> Effect:
    """Record that a permission ended."""
    return _decide(arrival, work, granted=False)


def _decide(arrival: Arrival[inbound.ConsentEvent], work: Work, *, granted: bool) -> Effect:
    contact = arrival.contact(work)
    decision = Decision(
        granted=granted,
        decided_at=arrival.happened_at(work.tx.now),
        **arrival.fact.model_dump(exclude={"customer"}),
    )
    return Effect(people.change_consent(work, contact.id, decision, arrival.cause))


def _given(fact: inbound.ContactDetails) -> dict[str, Any]:
    values = {name: getattr(fact, name) for name in DETAILS}
    return {name: value for name, value in values.items() if value is not None}
