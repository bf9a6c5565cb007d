"""How writes are answered: one transaction each, and once for each Idempotency-Key."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Annotated
from uuid import UUID

import msgspec
from fastapi import Header, Request, Response
from pydantic import BaseModel

from loyalty import store
from rapport.messaging.transaction import Tx
from rapport.problem import Problem
from rapport.service import Service

IdempotencyKey = Annotated[str | None, Header(max_length=255, min_length=1)]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a write answers with."""

    status: int
    body: BaseModel
    headers: Mapping[str, str] = field(default_factory=dict)


async def answer_once(
    request: Request,
    contact_id: UUID,
    key: str | None,
    write: Callable[[Tx, UUID], Awaitable[Answer]],
) -> Response:
    """Run `write` for a member under the member's lock, or repeat this key's first answer.

    `write` is given the name that counts after merges. The key is looked up behind the lock: of two
    equal requests at once the second gets the first one's answer. Only answers of transactions that
    committed are kept: a refused request may be mended and sent again with the same key. Raises
    Problem 404 for a stranger, who leaves no key row, and 422 when the key came with another
    request before.
    """
    service: Service = request.app.state.service
    fingerprint = await _fingerprint(request)

    async def body(tx: Tx) -> store.StoredAnswer:
        if await store.find_member(tx, contact_id) is None:
            raise not_a_member(contact_id)
        canonical = (await tx.lock_keys([contact_id]))[contact_id]
        known = await store.find_answer(tx, key) if key is not None else None
        if known is not None:
            return _checked(known, fingerprint)
        answer = await write(tx, canonical)
        stored = store.StoredAnswer(
            fingerprint,
            canonical,
            answer.status,
            dict(answer.headers),
            answer.body.model_dump_json(),
        )
        if key is not None:
            await store.add_answer(tx, key, stored)
        return stored

    stored = await service.database.transact(body)
    return Response(
        stored.body, stored.status, headers=stored.headers, media_type="application/json"
    )


def not_a_member(contact_id: UUID) -> Problem:
    """Make the problem of a contact that is none of the programme's members."""
    return Problem(404, "Not a member", f"{contact_id} is not a member of the programme")


async def _fingerprint(request: Request) -> bytes:
    head = msgspec.json.encode([request.method, request.url.path])
    return blake2b(head + b"\n" + await request.body(), digest_size=16).digest()


def _checked(known: store.StoredAnswer, fingerprint: bytes) -> store.StoredAnswer:
    if known.fingerprint != fingerprint:
        reason = "was used for another request"
        errors = [{"field": "Idempotency-Key", "reason": reason}]
        raise Problem(422, "The idempotency key is taken", errors=errors)
    return known
