"""The one door for external events, by HTTP and by Kafka."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from contacts.domain.contact import check_zone
from contacts.domain.purchase import check_time
from contacts.domain.refusal import RefusedError
from contacts.handlers import forms, purchases
from contacts.handlers.arrival import Arrival, Effect, arrive
from contacts.handlers.work import PROGRAMME_ZONE, Work
from contacts.store import reference as reference_store
from contacts.store import source as source_store
from rapport.contracts import inbound
from rapport.messaging import inbox
from rapport.messaging.delivery import Command
from rapport.messaging.inbox import External, Outcome, Rejection
from rapport.messaging.transaction import Tx

Checked = Arrival[Any] | Rejection | None
Known = dict[inbox.Key, inbox.Entry]
References = dict[reference_store.Reference, UUID]


async def accept(
    events: Sequence[External], tx: Tx, zone: ZoneInfo = PROGRAMME_ZONE
) -> list[Outcome]:
    """Take external events in, in their order; return what became of each.

    A rejected event leaves no trace. Whatever the cut into calls and however often an event comes,
    the same rows and events result. Locks: references, keys, then rows; events of the same
    contact, by HTTP and by Kafka at once, wait for each other at the key.
    """
    hashes = [inbox.body_hash(event) for event in events]
    known = await inbox.find_entries(tx, {event.key for event in events})
    checked = await _check(events, known, tx)
    arrivals = [c for c in checked if isinstance(c, Arrival)]
    work = Work(tx, zone)
    added = await _open(arrivals, work)
    if arrivals:
        known |= await inbox.find_entries(tx, {a.event.key for a in arrivals})
    fresh: Known = {}
    outcomes = []
    for event, body_hash, found in zip(events, hashes, checked, strict=True):
        entry = known.get(event.key) or fresh.get(event.key)
        if entry is not None:
            outcomes.append(_answer_again(event, body_hash, entry))
        elif isinstance(found, Arrival):
            outcomes.append(_enter(found, body_hash, work, fresh))
        else:
            outcomes.append(Outcome.rejected(_refusal(found)))
    await _close(work, added, fresh)
    return outcomes


async def _check(events: Sequence[External], known: Known, tx: Tx) -> list[Checked]:
    """Validate what was not accepted before; None for what was."""
    new = {event.source for event in events if event.key not in known}
    systems = await source_store.find_systems(tx, new) if new else {}
    return [
        None if event.key in known else _recognise(event, systems.get(event.source))
        for event in events
    ]


def _recognise(event: External, system: str | None) -> Arrival[Any] | Rejection:
    if system is None:
        return Rejection.of("source", "is not registered", event)
    fact = inbox.validate(event)
    if isinstance(fact, Rejection):
        return fact
    try:
        _check_values(fact)
    except RefusedError as error:
        return Rejection(error.reason, error.field, event.source, event.id)
    return arrive(event, fact, system)


def _check_values(fact: inbound.ExternalEvent) -> None:
    if isinstance(fact, inbound.ContactDetails):
        check_zone(fact.zone)
    occurred_at: datetime | None = getattr(fact, "occurred_at", None)
    if occurred_at is not None:
        check_time(occurred_at)


async def _open(arrivals: Sequence[Arrival[Any]], work: Work) -> References:
    """Resolve references, lock keys, load rows; return the references that were added."""
    if not arrivals:
        return {}
    tx = work.tx
    found, added = await _resolve(tx, {a.reference: a.contact_id for a in arrivals})
    locked = await tx.lock_keys(found.values())
    for arrival in arrivals:
        arrival.contact_id = locked[found[arrival.reference]]
    orders = [(a.purchase_id, a.fact) for a in arrivals if a.purchase_id]
    bought = {order for order, fact in orders if isinstance(fact, inbound.PurchaseRecorded)}
    await work.load({a.contact_id for a in arrivals}, {order for order, _ in orders}, bought)
    return added


async def _resolve(tx: Tx, wanted: References) -> tuple[References, References]:
    """Find contacts by reference and add the missing, sorted; return all, and those added."""
    found = await reference_store.find_contacts(tx, wanted)
    missing = {key: wanted[key] for key in sorted(wanted.keys() - found.keys())}
    if not missing:
        return found, {}
    added = await reference_store.add_references(tx, missing)
    taken = missing.keys() - added.keys()
    if taken:
        found |= await reference_store.find_contacts(tx, taken)
    return found | added, added


def _enter(arrival: Arrival[Any], body_hash: bytes, work: Work, fresh: Known) -> Outcome:
    try:
        effect = RULES[type(arrival.fact)](arrival, work)
    except RefusedError as error:
        return Outcome("rejected", None, error.reason, error.field)
    fresh[arrival.event.key] = inbox.Entry(body_hash, effect.event_id or arrival.cause.id)
    return Outcome(effect.status, effect.event_id)


def _answer_again(event: External, body_hash: bytes, entry: inbox.Entry) -> Outcome:
    if entry.body_hash != body_hash:
        return Outcome("rejected", None, inbox.ID_REUSED, "id")
    silent = entry.event_id == Command.external(event.source, event.id).id
    return Outcome("duplicate", None if silent else entry.event_id)


def _refusal(found: Rejection | None) -> Rejection:
    if found is None:
        raise LookupError("an accepted event has left the inbox")
    return found


async def _close(work: Work, added: References, fresh: Known) -> None:
    """Write everything; references that only refused events named are taken back."""
    await work.save()
    unused = [key for key, contact_id in added.items() if contact_id not in work.contacts]
    if unused:
        await reference_store.delete_references(work.tx, sorted(unused))
    if fresh:
        await inbox.add_entries(work.tx, list(fresh.items()))


RULES: dict[type[inbound.ExternalEvent], Callable[[Arrival[Any], Work], Effect]] = {
    inbound.ContactRegistered: forms.register,
    inbound.ContactUpdated: forms.update,
    inbound.ConsentGiven: forms.give_consent,
    inbound.ConsentWithdrawn: forms.withdraw_consent,
    inbound.PurchaseRecorded: purchases.record,
    inbound.PurchaseRefunded: purchases.refund,
}
