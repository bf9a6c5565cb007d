"""Attempts to hand messages over, and what the mailer claims, records and resolves.

Every change of an attempt asks whether it is still open: a mailer that was frozen and wakes up
finds that another one has resolved its attempts, and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from notifications.domain.gates import Facts
from notifications.domain.rendering import MessageTemplate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import asyncpg

    from notifications.domain.message import Variables
    from rapport.messaging.transaction import Tx

State = Literal["sent", "deferred", "rejected", "released", "unknown", "lost", "unresolved"]


@dataclass(frozen=True, slots=True)
class DueMessage:
    """A queued message whose time has come, with all that the hand-over needs."""

    id: UUID
    contact_id: UUID
    category: str
    message_class: str
    expires_at: datetime
    failures: int
    address: str | None
    given_name: str | None
    facts: Facts
    template: MessageTemplate
    variables: Variables


@dataclass(frozen=True, slots=True)
class NewAttempt:
    """A hand-over that is about to begin."""

    id: UUID
    message_id: UUID
    consent_event_id: UUID | None


@dataclass(frozen=True, slots=True)
class Result:
    """How an attempt ended. `message_state` is what becomes of the message; `gates` JSON text."""

    attempt_id: UUID
    state: State
    message_state: Literal["sent", "queued", "failed", "unknown"]
    code: int | None = None
    enhanced_code: str | None = None
    reason: str | None = None
    gates: str = "[]"
    retry_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Recorded:
    """A message after its attempt ended, as its events name it."""

    id: UUID
    contact_id: UUID
    rule: str
    about_id: UUID
    channel: str
    trace: str | None
    state: str
    reason: str | None
    consent_event_id: UUID | None
    attempts: int


@dataclass(frozen=True, slots=True)
class OpenAttempt:
    """An attempt of which nobody knows how it ended."""

    id: UUID
    message_id: UUID
    contact_id: UUID
    message_class: str
    unresolved_before: int


async def list_due(tx: Tx, limit: int) -> list[tuple[UUID, UUID]]:
    """Return (message, contact) of what may be handed over now; takes no locks.

    Marketing of a contact with parked events waits: one of them may withdraw the consent.
    """
    rows = await tx.fetch(
        """
        select id, contact_id from message m
        where state = 'queued' and due_at <= $1 and not_before <= clock_timestamp()
            and not (message_class = 'marketing' and exists (
                select 1 from rapport.key k where k.id = m.contact_id and k.parked))
        order by due_at, id limit $2
        """,
        tx.now,
        limit,
    )
    return [(row["id"], row["contact_id"]) for row in rows]


async def lock_due(tx: Tx, ids: Sequence[UUID]) -> list[DueMessage]:
    """Lock messages that are still queued, unless another mailer does; return them by id."""
    rows = await tx.fetch(
        """
        select m.id, m.contact_id, m.category, m.message_class, m.expires_at, m.failures,
            m.variables, m.template, m.template_language, m.template_version,
            t.subject, t.text, t.html,
            r.address, r.given_name, r.zone, s.reason as suppressed,
            coalesce(c.granted, false) as granted, c.event_id, p.wanted
        from message m
            join template t on t.code = m.template and t.language = m.template_language
                and t.version = m.template_version
            left join recipient r on r.contact_id = m.contact_id
            left join suppression s on s.address_hash = r.address_hash
            left join lateral (
                select rules ->> 'purpose' as purpose from category
                where code = m.category order by version desc limit 1) k on true
            left join consent c on c.contact_id = m.contact_id and c.channel = m.channel
                and c.purpose = k.purpose
            left join preference p on p.contact_id = m.contact_id and p.channel = m.channel
                and p.category = m.category
        where m.id = any($1::uuid[]) and m.state = 'queued'
        order by m.id
        for no key update of m skip locked
        """,
        ids,
    )
    return [_due_message(row) for row in rows]


def _due_message(row: asyncpg.Record) -> DueMessage:
    return DueMessage(
        id=row["id"],
        contact_id=row["contact_id"],
        category=row["category"],
        message_class=row["message_class"],
        expires_at=row["expires_at"],
        failures=row["failures"],
        address=row["address"],
        given_name=row["given_name"],
        facts=Facts(
            has_address=row["address"] is not None,
            suppressed=row["suppressed"],
            granted=row["granted"],
            consent_event_id=row["event_id"],
            wanted=row["wanted"],
            zone=row["zone"],
        ),
        template=MessageTemplate(
            row["template"],
            row["template_language"],
            row["template_version"],
            row["subject"],
            row["text"],
            row["html"],
        ),
        variables=row["variables"],
    )


async def add_attempts(tx: Tx, holder: UUID, attempts: Sequence[NewAttempt]) -> None:
    """Commit to hand-overs: the attempts are `sending`, and so are their messages."""
    await tx.execute(
        """
        with given as (
            select * from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as g(id, message_id, consent)
        ), claimed as (
            update message m set state = 'sending', handed_over_at = $4,
                consent_event_id = given.consent
            from given where m.id = given.message_id and m.state = 'queued'
            returning m.id
        )
        insert into attempt (id, message_id, number, holder, state)
        select given.id, given.message_id,
            (select count(*) from attempt a where a.message_id = given.message_id) + 1,
            $5, 'sending'
        from given join claimed on claimed.id = given.message_id
        """,
        [a.id for a in attempts],
        [a.message_id for a in attempts],
        [a.consent_event_id for a in attempts],
        tx.now,
        holder,
    )


async def add_tokens(
    tx: Tx, contact_ids: Sequence[UUID], categories: Sequence[str]
) -> dict[tuple[UUID, str], str]:
    """Return the link token of each (contact, list), drawn at its first use.

    Two statements: what the first one inserts, it does not see itself.
    """
    await tx.execute(
        """
        insert into unsubscribe_token (contact_id, category)
        select distinct contact_id, category
        from unnest($1::uuid[], $2::text[]) as g(contact_id, category)
        where not exists (select 1 from unsubscribe_token t
            where t.contact_id = g.contact_id and t.category = g.category)
        """,
        contact_ids,
        categories,
    )
    rows = await tx.fetch(
        """
        select contact_id, category, min(token) as token from unsubscribe_token
        where contact_id = any($1::uuid[]) and category = any($2::text[]) group by 1, 2
        """,
        contact_ids,
        categories,
    )
    return {(row["contact_id"], row["category"]): row["token"] for row in rows}


async def record_results(tx: Tx, results: Sequence[Result]) -> list[Recorded]:
    """End attempts that are still open, move their messages; return these, by message id."""
    rows = await tx.fetch(
        """
        with given as (
            select id, state, message_state, code, enhanced_code, reason, gates::jsonb, retry
            from unnest($1::uuid[], $2::text[], $3::text[], $4::int[], $5::text[], $6::text[],
                $7::text[], $8::float8[])
                as g(id, state, message_state, code, enhanced_code, reason, gates, retry)
        ), ended as (
            update attempt a set state = given.state, code = given.code,
                enhanced_code = given.enhanced_code, finished_at = clock_timestamp()
            from given where a.id = given.id and (a.state = 'sending'
                or a.state = 'unknown' and given.state in ('sent', 'lost', 'unresolved'))
            returning a.message_id, a.number, given.*
        )
        update message m set state = ended.message_state, reason = ended.reason,
            gates = m.gates || ended.gates,
            sent_at = case when ended.message_state = 'sent' then $9::timestamptz end,
            failures = m.failures + (ended.retry > 0)::int,
            not_before = clock_timestamp() + make_interval(secs => ended.retry)
        from ended where m.id = ended.message_id
        returning m.id, m.contact_id, m.rule, m.about_id, m.channel, m.trace, m.state, m.reason,
            m.consent_event_id, ended.number as attempts
        """,
        [r.attempt_id for r in results],
        [r.state for r in results],
        [r.message_state for r in results],
        [r.code for r in results],
        [r.enhanced_code for r in results],
        [r.reason for r in results],
        [r.gates for r in results],
        [r.retry_seconds for r in results],
        tx.now,
    )
    return sorted((Recorded(*row) for row in rows), key=lambda recorded: recorded.id)


async def list_open_attempts(tx: Tx, seconds: float, limit: int) -> list[OpenAttempt]:
    """Return attempts that began longer ago than this in real time and have no result."""
    rows = await tx.fetch(
        """
        select a.id, a.message_id, m.contact_id, m.message_class, (
            select count(*) from attempt b
            where b.message_id = a.message_id and b.state = 'unresolved') as unresolved_before
        from attempt a join message m on m.id = a.message_id
        where a.state in ('sending', 'unknown')
            and a.started_at < clock_timestamp() - make_interval(secs => $1)
        order by a.started_at, a.id limit $2
        """,
        seconds,
        limit,
    )
    return [OpenAttempt(*row) for row in rows]
