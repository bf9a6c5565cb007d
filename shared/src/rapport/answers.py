"""Each Idempotency-Key is answered once: what comes again gets the first answer.

A key is 1 to 255 visible ASCII characters and stands for one request: method, path, query and body
as sent. Its answer (status, headers, body) is kept for `KEPT_HOURS` at least, by the database's
clock; then the leader's retention run removes it, and the key means a new request.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import msgspec
from fastapi import Header, Request, Response
from pydantic import BaseModel

from rapport.messaging.transaction import Tx
from rapport.problem import Problem

if TYPE_CHECKING:
    from rapport.pgtypes import Connection
    from rapport.service import Service

KEPT_HOURS = 24
PRUNED_AT_ONCE = 5_000
VISIBLE = re.compile(r"[!-~]{1,255}")

IdempotencyKey = Annotated[
    str | None,
    Header(
        description="The same key with the same request gets the first answer, for 24 hours.",
        json_schema_extra={"minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    ),
]
"""The header as a parameter of a route; `answer_once` checks it."""

LOCK = "select pg_advisory_xact_lock(hashtextextended($1, 7271504))"
FIND = "select fingerprint, contact_id, status, headers, body from rapport.answer where key = $1"
ADD = """
insert into rapport.answer (key, fingerprint, contact_id, status, headers, body)
values ($1, $2, $3, $4, $5, $6)
"""
PRUNE = """
delete from rapport.answer where key = any(array(
    select key from rapport.answer where answered_at < now() - make_interval(hours => $1)
    order by answered_at limit $2 for update skip locked))
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a write answers with; `contact_id` is whose data it holds, None for nobody's."""

    status: int
    body: BaseModel
    contact_id: UUID | None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer as it was first given, with the hash of the request that got it."""

    fingerprint: bytes
    contact_id: UUID | None
    status: int
    headers: dict[str, str]
    body: str


async def answer_once(
    request: Request, key: str | None, write: Callable[[Tx], Awaitable[Answer]]
) -> Response:
    """Run `write` in a transaction, or repeat the first answer that this key got.

    Of equal requests at once the first one to lock the key is answered, and the others get its
    answer: they wait before they look at anything. Only answers of transactions that committed
    are kept: a refused request may be mended and sent again with the same key. Raises Problem 422,
    naming `Idempotency-Key`, for what is no key and for one that came with another request.
    """
    service: Service = request.app.state.service
    fingerprint = await _fingerprint(request)
    if key is not None and not VISIBLE.fullmatch(key):
        raise _problem(
            "The idempotency key is not valid", "wants 1 to 255 visible ASCII characters"
        )

    async def body(tx: Tx) -> StoredAnswer:
        if key is None:
            return _stored(await write(tx), fingerprint)
        await lock_answer(tx, key)
        known = await find_answer(tx, key)
        if known is None:
            known = _stored(await write(tx), fingerprint)
            await add_answer(tx, key, known)
        elif known.fingerprint != fingerprint:
            raise _problem("The idempotency key is taken", "was used for another request")
        return known

    answer = await service.database.transact(body)
    return Response(
        answer.body, answer.status, headers=answer.headers, media_type="application/json"
    )


async def _fingerprint(request: Request) -> bytes:
    head = msgspec.json.encode([request.method, request.url.path, request.url.query])
    return blake2b(head + b"\n" + await request.body(), digest_size=16).digest()


def _stored(answer: Answer, fingerprint: bytes) -> StoredAnswer:
    return StoredAnswer(
        fingerprint=fingerprint,
        contact_id=answer.contact_id,
        status=answer.status,
        headers=dict(answer.headers),
        body=answer.body.model_dump_json(),
    )


def _problem(title: str, reason: str) -> Problem:
    return Problem(422, title, errors=[{"field": "Idempotency-Key", "reason": reason}])


async def lock_answer(tx: Tx, key: str) -> None:
    """Wait until no other transaction answers this key, and keep it until this one ends.

    The first lock of its transaction and the only one of its kind, so no deadlock goes through it.
    """
    await tx.execute(LOCK, key)


async def find_answer(tx: Tx, key: str) -> StoredAnswer | None:
    """Return the answer that was given to this key."""
    row = await tx.fetchrow(FIND, key)
    return StoredAnswer(*row) if row else None


async def add_answer(tx: Tx, key: str, answer: StoredAnswer) -> None:
    """Keep the answer to a locked key that has none."""
    columns = (answer.fingerprint, answer.contact_id, answer.status, answer.headers, answer.body)
    await tx.execute(ADD, key, *columns)


async def prune(connection: Connection, at_once: int = PRUNED_AT_ONCE) -> int:
    """Remove answers older than `KEPT_HOURS`, a part per transaction; return how many."""
    pruned = 0
    while True:
        tag = await connection.execute(PRUNE, KEPT_HOURS, at_once)
        removed = int(tag.removeprefix("DELETE "))
        pruned += removed
        if removed < at_once:
            return pruned
