"""What each event means for messages; the table at the end is the map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from functools import partial
from typing import Any
from uuid import UUID

from notifications.domain import message as messages
from notifications.domain.decision import Context, Decided, Draft, Recipient, decide_draft
from notifications.domain.gates import Facts, decisions_json
from notifications.domain.message import ANNIVERSARY, EMAIL, THANK_YOU, Rule, Variables
from notifications.store import category, message, preference, recipient, template
from rapport.contracts.contacts import (
    AnniversaryDue,
    ConsentChanged,
    ContactMerged,
    ContactRegistered,
    ContactState,
    ContactUpdated,
    PurchaseRecorded,
)
from rapport.contracts.notifications import MessageQueued, MessageSuppressed
from rapport.messaging.delivery import Delivery
from rapport.messaging.handler import Handlers, several_per_contact
from rapport.messaging.transaction import Tx

STRANGER = Recipient(Facts(has_address=False))


@dataclass(frozen=True, slots=True)
class Occasion:
    """An event's wish to write to its contact about something."""

    delivery: Delivery[Any]
    about_id: UUID
    name: str
    subject_at: datetime
    variables: Callable[[], Variables]


@several_per_contact
async def remember_recipients(states: Sequence[Delivery[ContactState]], tx: Tx) -> None:
    """Keep address, language and zone of each contact as its newest event has them."""
    newest: dict[UUID, Delivery[ContactState]] = {}
    for state in states:
        known = newest.get(state.contact_id)
        if known is None or known.event.version < state.event.version:
            newest[state.contact_id] = state
    await recipient.add_recipients(
        tx,
        [
            recipient.Address(
                contact_id,
                state.event.email,
                state.event.given_name,
                state.event.language,
                state.event.zone,
                state.event.version,
            )
            for contact_id, state in newest.items()
        ],
    )


@several_per_contact
async def remember_consents(changes: Sequence[Delivery[ConsentChanged]], tx: Tx) -> None:
    """Keep the latest decision per purpose and channel, with the event that says so."""
    latest = {(c.contact_id, c.event.purpose, c.event.channel): c for c in changes}
    await recipient.add_consents(
        tx,
        [
            recipient.Consent(
                contact_id,
                purpose,
                channel,
                change.event.granted,
                change.id,
                change.event.wording_version,
                change.time,
            )
            for (contact_id, purpose, channel), change in latest.items()
        ],
    )


@several_per_contact
async def thank_purchasers(purchases: Sequence[Delivery[PurchaseRecorded]], tx: Tx) -> None:
    """Thank for each purchase that was paid for; what is too old leaves a row saying so."""
    zone = (await category.list_categories(tx, [THANK_YOU.category]))[THANK_YOU.category].rules.zone
    occasions = [
        Occasion(
            purchase,
            purchase.event.purchase_id,
            "",
            purchase.event.occurred_at,
            partial(messages.purchase_variables, purchase.event, zone),
        )
        for purchase in purchases
        if messages.net_minor(purchase.event) > 0
    ]
    await _decide(THANK_YOU, occasions, tx)


async def thank_at_anniversary(due: Sequence[Delivery[AnniversaryDue]], tx: Tx) -> None:
    """Thank for the contact's first kept purchase, once a year; others have no mail."""
    occasions = [
        Occasion(
            delivery,
            purchase.purchase_id,
            str(delivery.event.local_date.year),
            datetime.combine(delivery.event.local_date, time(), UTC),
            partial(
                messages.anniversary_variables, purchase.purchased_on, delivery.event.local_date
            ),
        )
        for delivery in due
        for purchase in delivery.event.purchases
        if purchase.first_kept
    ]
    await _decide(ANNIVERSARY, occasions, tx)


async def join_recipients(merges: Sequence[Delivery[ContactMerged]], tx: Tx) -> None:
    """Re-key everything of the losers; the strictest consent holds."""
    losers = [merge.event.loser_id for merge in merges]
    survivors = [merge.event.survivor_id for merge in merges]
    await recipient.join_recipients(tx, losers, survivors)
    await recipient.join_consents(tx, losers, survivors)
    await preference.join_preferences(tx, losers, survivors)
    await message.join_messages(tx, losers, survivors)


async def _decide(rule: Rule, occasions: Sequence[Occasion], tx: Tx) -> None:
    if not occasions:
        return
    kind = (await category.list_categories(tx, [rule.category]))[rule.category]
    contacts = list({o.delivery.contact_id for o in occasions})
    known = await recipient.find_recipients(tx, contacts, kind, EMAIL)
    context = Context(kind.rules, await template.list_templates(tx, rule.template), tx.now)
    rows = [_row(rule, o, known.get(o.delivery.contact_id, STRANGER), context) for o in occasions]
    origin = message.Origin(rule, kind, EMAIL, tx.now + kind.rules.age_limit)
    added = await message.add_messages(tx, origin, rows)
    for occasion, row in zip(occasions, rows, strict=True):
        if row.id in added:
            added.discard(row.id)
            _publish(rule, row, occasion.delivery, tx)


def _row(rule: Rule, occasion: Occasion, known: Recipient, context: Context) -> message.NewMessage:
    contact_id = occasion.delivery.contact_id
    message_id = messages.message_id(rule, occasion.about_id, occasion.name, contact_id)
    draft = Draft(message_id, occasion.subject_at, occasion.variables)
    decided: Decided = decide_draft(draft, known, context)
    return message.NewMessage(
        id=message_id,
        contact_id=contact_id,
        about_id=occasion.about_id,
        occasion=occasion.name,
        template_language=decided.template.language if decided.template else None,
        template_version=decided.template.version if decided.template else None,
        reason=decided.verdict.refused,
        gates=decisions_json(decided.verdict.decisions),
        variables=decided.variables,
        consent_event_id=decided.consent_event_id,
        cause_id=occasion.delivery.id,
        trace=occasion.delivery.trace,
        due_at=decided.verdict.due_at,
    )


def _publish(rule: Rule, row: message.NewMessage, cause: Delivery[Any], tx: Tx) -> None:
    if row.reason is None:
        event: MessageQueued | MessageSuppressed = MessageQueued(
            contact_id=row.contact_id,
            message_id=row.id,
            rule=rule.code,
            channel=EMAIL,
            about_id=row.about_id,
        )
    else:
        event = MessageSuppressed(
            contact_id=row.contact_id,
            message_id=row.id,
            rule=rule.code,
            channel=EMAIL,
            about_id=row.about_id,
            reason=row.reason,
        )
    tx.publish(event, cause=cause)


HANDLERS: Handlers = {
    ContactRegistered: remember_recipients,
    ContactUpdated: remember_recipients,
    ConsentChanged: remember_consents,
    PurchaseRecorded: thank_purchasers,
    AnniversaryDue: thank_at_anniversary,
    ContactMerged: join_recipients,
}
