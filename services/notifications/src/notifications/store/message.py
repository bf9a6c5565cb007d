"""Message rows: written once by a decision, then moved through their states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from notifications.domain.category import Category
    from notifications.domain.message import Rule, Variables
    from rapport.messaging.transaction import Tx


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A decided message. `reason` is None when every gate let it pass; `gates` is JSON text."""

    id: UUID
    contact_id: UUID
    about_id: UUID
    occasion: str
    template_language: str | None
    template_version: int | None
    reason: str | None
    gates: str
    variables: Variables | None
    consent_event_id: UUID | None
    cause_id: UUID
    trace: str | None
    due_at: datetime


@dataclass(frozen=True, slots=True)
class Origin:
    """What all messages of one decision have in common."""

    rule: Rule
    category: Category
    channel: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Stopped:
    """A message that will not be handed over, as its events name it."""

    id: UUID
    contact_id: UUID
    rule: str
    about_id: UUID
    channel: str
    trace: str | None
    reason: str


ADD = """
insert into message (id, contact_id, about_id, occasion, template_language, template_version,
    reason, state, gates, variables, consent_event_id, cause_id, trace, due_at,
    rule, channel, category, category_version, message_class, template, decided_at, expires_at)
select id, contact_id, about_id, occasion, template_language, template_version, reason,
    case when reason is null then 'queued' else 'suppressed' end, gates::jsonb, variables::jsonb,
    consent_event_id, cause_id, trace, coalesce(due_at, $20), $14, $15, $16, $17, $18, $19, $20, $21
from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::int[], $7::text[],
    $8::text[], $9::text[], $10::uuid[], $11::uuid[], $12::text[], $13::timestamptz[])
    as m(id, contact_id, about_id, occasion, template_language, template_version, reason, gates,
        variables, consent_event_id, cause_id, trace, due_at)
order by id
on conflict do nothing
returning id
"""


async def add_messages(tx: Tx, origin: Origin, messages: Sequence[NewMessage]) -> set[UUID]:
    """Write decisions; return the ids of those that were not there: the dedupe gate."""
    rows = await tx.fetch(
        ADD,
        [m.id for m in messages],
        [m.contact_id for m in messages],
        [m.about_id for m in messages],
        [m.occasion for m in messages],
        _sparse([m.template_language for m in messages]),
        _sparse([m.template_version for m in messages]),
        _sparse([m.reason for m in messages]),
        [m.gates for m in messages],
        _sparse([None if m.variables is None else _json(m.variables) for m in messages]),
        _sparse([m.consent_event_id for m in messages]),
        [m.cause_id for m in messages],
        _sparse([m.trace for m in messages]),
        _sparse([None if m.due_at == tx.now else m.due_at for m in messages]),
        origin.rule.code,
        origin.channel,
        origin.category.code,
        origin.category.version,
        origin.category.rules.message_class,
        origin.rule.template,
        tx.now,
        origin.expires_at,
    )
    return {row["id"] for row in rows}


def _sparse(values: list[Any]) -> list[Any] | None:
    """Leave out a column without values: `unnest` fills it up with nulls, and encoding is dear."""
    return None if all(value is None for value in values) else values


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


async def stop_messages(
    tx: Tx, ids: Sequence[UUID], reasons: Sequence[str], gates: Sequence[str]
) -> list[Stopped]:
    """Suppress queued messages at their hand-over; `gates` are the decisions to add."""
    rows = await tx.fetch(
        """
        update message m set state = 'suppressed', reason = s.reason, gates = m.gates || s.gates
        from (select id, reason, gates::jsonb
              from unnest($1::uuid[], $2::text[], $3::text[]) as s(id, reason, gates)) s
        where m.id = s.id and m.state = 'queued'
        returning m.id, m.contact_id, m.rule, m.about_id, m.channel, m.trace, m.reason
        """,
        ids,
        reasons,
        gates,
    )
    return sorted((Stopped(*row) for row in rows), key=lambda stopped: stopped.id)


async def defer_messages(
    tx: Tx, ids: Sequence[UUID], due_at: Sequence[datetime], gates: Sequence[str]
) -> None:
    """Move the hand-over of queued messages; `gates` are the decisions to add."""
    await tx.execute(
        """
        update message m set due_at = d.due_at, gates = m.gates || d.gates
        from (select id, due_at, gates::jsonb
              from unnest($1::uuid[], $2::timestamptz[], $3::text[]) as d(id, due_at, gates)) d
        where m.id = d.id and m.state = 'queued'
        """,
        ids,
        due_at,
        gates,
    )


async def list_hand_overs(
    tx: Tx, contact_ids: Sequence[UUID], category: str, since: datetime
) -> list[tuple[UUID, datetime]]:
    """Return (contact, instant) of the category's hand-overs since an instant, newest first."""
    rows = await tx.fetch(
        """
        select contact_id, handed_over_at from message
        where contact_id = any($1::uuid[]) and category = $2 and handed_over_at > $3
            and state in ('sending', 'sent', 'unknown')
        order by handed_over_at desc
        """,
        contact_ids,
        category,
        since,
    )
    return [(row["contact_id"], row["handed_over_at"]) for row in rows]


async def join_messages(tx: Tx, losers: Sequence[UUID], survivors: Sequence[UUID]) -> None:
    """Give the losers' messages and link tokens to the survivors.

    Where both were written to on one occasion the loser's row keeps its contact: the survivor's
    holds the dedupe key for ever.
    """
    await tx.execute(
        """
        with merged as (select * from unnest($1::uuid[], $2::uuid[]) as m(loser, survivor)),
        tokens as (
            update unsubscribe_token t set contact_id = merged.survivor from merged
            where t.contact_id = merged.loser
        )
        update message m set contact_id = merged.survivor from merged
        where m.contact_id = merged.loser and not exists (
            select 1 from message other
            where other.about_id = m.about_id and other.rule = m.rule
                and other.occasion = m.occasion and other.channel = m.channel
                and other.contact_id = merged.survivor)
        """,
        losers,
        survivors,
    )


async def find_message(tx: Tx, message_id: UUID) -> dict[str, Any] | None:
    """Return a message row with its attempts, oldest first."""
    row = await tx.fetchrow(
        """
        select m.*, (
            select coalesce(jsonb_agg(jsonb_build_object(
                'number', a.number, 'state', a.state, 'code', a.code,
                'enhanced_code', a.enhanced_code, 'started_at', a.started_at,
                'finished_at', a.finished_at) order by a.number), '[]')
            from attempt a where a.message_id = m.id) as attempts
        from message m where m.id = $1
        """,
        message_id,
    )
    return dict(row) if row else None


async def list_messages(
    tx: Tx, contact_id: UUID, before: tuple[datetime, UUID] | None, limit: int
) -> list[dict[str, Any]]:
    """Return a contact's messages, the newest decision first, after (`decided_at`, id) `before`.

    The name of a merged contact finds its survivor's.
    """
    rows = await tx.fetch(
        """
        select * from message
        where contact_id = coalesce((select survivor from rapport.key where id = $1), $1)
            and ($2::timestamptz is null or (decided_at, id) < ($2, $3::uuid))
        order by decided_at desc, id desc limit $4
        """,
        contact_id,
        *(before or (None, None)),
        limit,
    )
    return [dict(row) for row in rows]
