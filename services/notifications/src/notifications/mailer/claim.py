"""Claims messages for their hand-over: asks the gates again and commits to each attempt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from notifications.domain import rendering
from notifications.domain.category import Category
from notifications.domain.decision import RENDER_FAILED
from notifications.domain.gates import Question, Verdict, decide, decisions_json, send_decision
from notifications.domain.mail import Envelope, build
from notifications.domain.message import all_variables
from notifications.mailer.transport import Mail, monotonic
from notifications.store import attempt, category, message
from notifications.store.attempt import DueMessage
from rapport.contracts.base import Event
from rapport.contracts.notifications import MessageQueued, MessageSuppressed
from rapport.messaging.delivery import Command
from rapport.messaging.ids import derived_id, drawn_id
from rapport.messaging.transaction import Tx

UNSENDABLE = "unsendable"
Key = tuple[UUID, str]


@dataclass(frozen=True, slots=True)
class Sender:
    """Who hands over: this process, in whose name, with which links, for how long at most."""

    holder: UUID
    address: str
    public_url: str
    window_seconds: float
    batch_size: int


@dataclass(frozen=True, slots=True)
class Claim:
    """Attempts that are committed as `sending`; nothing is handed over after `deadline`."""

    mails: Sequence[Mail]
    seen: int
    deadline: float


@dataclass(slots=True)
class _Sorted:
    """What becomes of the messages of one claim."""

    going: list[tuple[DueMessage, UUID, bytes]] = field(default_factory=list)
    stopped: list[tuple[UUID, str, str]] = field(default_factory=list)
    waiting: list[tuple[UUID, datetime, str]] = field(default_factory=list)


def cause_of(message_id: UUID, contact_id: UUID, trace: str | None) -> Command:
    """Return the cause of what a hand-over publishes: the message itself, whoever sends it."""
    return Command(derived_id("hand-over", message_id), contact_id, trace)


def later(event: Event) -> Sequence[UUID]:
    """Name the hand-over that a queued message leads to."""
    if isinstance(event, MessageQueued):
        return [cause_of(event.message_id, event.contact_id, None).id]
    return ()


async def claim(tx: Tx, sender: Sender) -> Claim:
    """Lock what is due, suppress or defer what a gate now stops, and begin the other attempts.

    The deadline counts from before the transaction, so it is over before anybody takes an attempt
    of this claim for lost.
    """
    deadline = monotonic() + sender.window_seconds
    due = await attempt.list_due(tx, sender.batch_size)
    if not due:
        return Claim((), 0, deadline)
    await tx.lock_keys({contact_id for _, contact_id in due})
    messages = await attempt.lock_due(tx, [message_id for message_id, _ in due])
    categories = await category.list_categories(tx)
    counted = await _count_hand_overs(tx, messages, categories)
    links = await _links(tx, messages, sender.public_url)
    sorted_ = _Sorted()
    for each in messages:
        key = (each.contact_id, each.category)
        verdict = _ask_again(each, categories[each.category], counted[key], tx.now)
        if not verdict.refused and verdict.due_at <= tx.now:
            counted[key].insert(0, tx.now)
        _sort(sorted_, each, verdict, _Writing(sender, tx.now, links.get(key)))
    await _defer(tx, sorted_)
    await _stop(tx, sorted_)
    await _begin(tx, sorted_, sender.holder)
    mails = [
        Mail(attempt_id, each.id, each.contact_id, each.address or "", each.failures, content)
        for each, attempt_id, content in sorted_.going
    ]
    return Claim(mails, len(messages), deadline)


async def _count_hand_overs(
    tx: Tx, messages: Sequence[DueMessage], categories: dict[str, Category]
) -> defaultdict[Key, list[datetime]]:
    counted: defaultdict[Key, list[datetime]] = defaultdict(list)
    for code in sorted({each.category for each in messages}):
        cap = categories[code].rules.cap
        if cap is None:
            continue
        contacts = [each.contact_id for each in messages if each.category == code]
        for contact_id, at in await message.list_hand_overs(
            tx, contacts, code, tx.now - cap.window
        ):
            counted[contact_id, code].append(at)
    return counted


async def _links(tx: Tx, messages: Sequence[DueMessage], public_url: str) -> dict[Key, str]:
    lists = [(m.contact_id, m.category) for m in messages if m.message_class == "marketing"]
    if not lists:
        return {}
    tokens = await attempt.add_tokens(tx, [key[0] for key in lists], [key[1] for key in lists])
    return {key: f"{public_url}/v1/unsubscribe/{token}" for key, token in tokens.items()}


def _ask_again(
    due: DueMessage, kind: Category, counted: Sequence[datetime], now: datetime
) -> Verdict:
    return decide(
        Question(
            message_id=due.id,
            rules=kind.rules,
            facts=replace(due.facts, handed_over=tuple(counted)),
            now=now,
            subject_at=None,
            expires_at=due.expires_at,
            render=lambda: None,
            stage="hand-over",
        )
    )


@dataclass(frozen=True, slots=True)
class _Writing:
    sender: Sender
    now: datetime
    link: str | None


def _sort(sorted_: _Sorted, due: DueMessage, verdict: Verdict, writing: _Writing) -> None:
    said = decisions_json(tuple(d for d in verdict.decisions if d.decision in ("refuse", "defer")))
    if verdict.refused:
        sorted_.stopped.append((due.id, verdict.refused, said))
        return
    if verdict.due_at > writing.now:
        sorted_.waiting.append((due.id, verdict.due_at, said))
        return
    try:
        sorted_.going.append((due, drawn_id(), _write(due, writing)))
    except rendering.RenderError:
        sorted_.stopped.append((due.id, RENDER_FAILED, send_decision(RENDER_FAILED)))
    except ValueError:
        sorted_.stopped.append((due.id, UNSENDABLE, send_decision(UNSENDABLE)))


def _write(due: DueMessage, writing: _Writing) -> bytes:
    variables = all_variables(due.variables, due.given_name, writing.link or "")
    words = rendering.render(due.template, variables)
    envelope = Envelope(
        message_id=due.id,
        sender=writing.sender.address,
        address=due.address or "",
        date=writing.now,
        unsubscribe_url=writing.link,
    )
    return build(envelope, words)


async def _defer(tx: Tx, sorted_: _Sorted) -> None:
    if sorted_.waiting:
        ids, due_at, gates = (list(part) for part in zip(*sorted_.waiting, strict=True))
        await message.defer_messages(tx, ids, due_at, gates)


async def _stop(tx: Tx, sorted_: _Sorted) -> None:
    if not sorted_.stopped:
        return
    ids, reasons, gates = (list(part) for part in zip(*sorted_.stopped, strict=True))
    for stopped in await message.stop_messages(tx, ids, reasons, gates):
        tx.publish(
            MessageSuppressed(
                contact_id=stopped.contact_id,
                message_id=stopped.id,
                rule=stopped.rule,
                channel=stopped.channel,
                about_id=stopped.about_id,
                reason=stopped.reason,
            ),
            cause=cause_of(stopped.id, stopped.contact_id, stopped.trace),
        )


async def _begin(tx: Tx, sorted_: _Sorted, holder: UUID) -> None:
    if sorted_.going:
        await attempt.add_attempts(
            tx,
            holder,
            [
                attempt.NewAttempt(
                    attempt_id,
                    due.id,
                    due.facts.consent_event_id if due.message_class == "marketing" else None,
                )
                for due, attempt_id, _ in sorted_.going
            ],
        )
