"""Records how attempts ended, and publishes what that means."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from uuid import UUID

from notifications.domain.backoff import retry_seconds
from notifications.domain.gates import send_decision
from notifications.mailer.claim import cause_of
from notifications.mailer.transport import Mail, Outcome
from notifications.store import attempt, recipient
from notifications.store.attempt import OpenAttempt, Recorded, Result
from rapport.contracts.notifications import MessageSent, MessageSuppressed
from rapport.messaging.transaction import Tx

HARD_BOUNCE = "hard_bounce"
REFUSED = "refused"


async def record_outcomes(
    tx: Tx, mails: Sequence[Mail], outcomes: Mapping[UUID, Outcome]
) -> list[Recorded]:
    """End this process's attempts with what the mail server said."""
    await tx.lock_keys({mail.contact_id for mail in mails})
    results = [_result(mail, outcomes[mail.attempt_id]) for mail in mails]
    recorded = await attempt.record_results(tx, results)
    ours = {each.id for each in recorded}
    bounced = [
        mail
        for mail in mails
        if outcomes[mail.attempt_id].kind == "bounced" and mail.message_id in ours
    ]
    if bounced:
        await recipient.add_suppressions(
            tx, [m.address for m in bounced], [m.message_id for m in bounced], HARD_BOUNCE
        )
    _publish(tx, recorded)
    return recorded


async def record_answers(
    tx: Tx, attempts: Sequence[OpenAttempt], accepted: set[UUID] | None
) -> list[Recorded]:
    """End attempts of unknown outcome: the provider has `accepted` these, None if it has no ear.

    What a provider does not have is handed over again. Where none can be asked, marketing is never
    sent again, and everything else once.
    """
    await tx.lock_keys({each.contact_id for each in attempts})
    recorded = await attempt.record_results(tx, [_answer(each, accepted) for each in attempts])
    _publish(tx, recorded)
    return recorded


def _result(mail: Mail, outcome: Outcome) -> Result:
    known = (outcome.code, outcome.enhanced_code)
    match outcome.kind:
        case "sent":
            return Result(mail.attempt_id, "sent", "sent", *known, gates=send_decision())
        case "released":
            return Result(mail.attempt_id, "released", "queued")
        case "unknown":
            return Result(mail.attempt_id, "unknown", "unknown", *known)
        case "deferred":
            chance = random.random()  # noqa: S311  jitter
            seconds = retry_seconds(mail.failures + 1, chance)
            return Result(mail.attempt_id, "deferred", "queued", *known, retry_seconds=seconds)
    reason = HARD_BOUNCE if outcome.kind == "bounced" else REFUSED
    gates = send_decision(reason)
    return Result(mail.attempt_id, "rejected", "failed", *known, reason=reason, gates=gates)


def _answer(open_: OpenAttempt, accepted: set[UUID] | None) -> Result:
    if accepted is not None:
        if open_.message_id in accepted:
            return Result(open_.id, "sent", "sent", gates=send_decision())
        return Result(open_.id, "lost", "queued")
    once_more = open_.message_class != "marketing" and open_.unresolved_before == 0
    return Result(open_.id, "unresolved", "queued" if once_more else "unknown")


def _publish(tx: Tx, recorded: Sequence[Recorded]) -> None:
    for each in recorded:
        cause = cause_of(each.id, each.contact_id, each.trace)
        if each.state == "sent":
            sent = MessageSent(
                contact_id=each.contact_id,
                message_id=each.id,
                rule=each.rule,
                channel=each.channel,
                about_id=each.about_id,
                attempts=each.attempts,
                consent_event_id=each.consent_event_id,
            )
            tx.publish(sent, cause=cause)
        elif each.state == "failed":
            failed = MessageSuppressed(
                contact_id=each.contact_id,
                message_id=each.id,
                rule=each.rule,
                channel=each.channel,
                about_id=each.about_id,
                reason=each.reason or REFUSED,
            )
            tx.publish(failed, cause=cause)
