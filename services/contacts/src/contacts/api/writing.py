"""How writes are answered: one transaction each, and once for each Idempotency-Key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import orjson
from fastapi import Header, Request, Response
from pydantic import BaseModel

from contacts.store import idempotency
from rapport.messaging.transaction import Tx
from rapport.problem import Problem

if TYPE_CHECKING:
    from rapport.service import Service

IdempotencyKey = Annotated[str | None, Header(max_length=255, min_length=1)]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a write answers with; `contact_id` says whose data it holds."""

    status: int
    body: BaseModel
    contact_id: UUID | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


async def answer_once(
    request: Request, key: str | None, write: Callable[[Tx], Awaitable[Answer]]
) -> Response:
    """Run `write` in a transaction, or repeat the first answer that this key got.

    Only answers of transactions that committed are kept: a refused request may be mended and sent
    again with the same key. Raises Problem 422 when the key came with another request before.
    """
    service: Service = request.app.state.service
    fingerprint = await _fingerprint(request)

    async def body(tx: Tx) -> idempotency.Stored:
        if key is not None:
            known = await idempotency.find_answer(tx, key)
            if known is not None:
                return _checked(known, fingerprint)
        answer = await write(tx)
        stored = idempotency.Stored(
            fingerprint=fingerprint,
            contact_id=answer.contact_id,
            status=answer.status,
            headers=dict(answer.headers),
            body=answer.body.model_dump_json(),
        )
        if key is not None:
            await idempotency.add_answer(tx, key, stored)
        return stored

    stored = await service.database.transact(body)
    return Response(
        stored.body, stored.status, headers=stored.headers, media_type="application/json"
    )


async def _fingerprint(request: Request) -> bytes:
    head = orjson.dumps([request.method, request.url.path])
    return blake2b(head + b"\n" + await request.body(), digest_size=16).digest()


def _checked(known: idempotency.Stored, fingerprint: bytes) -> idempotency.Stored:
    if known.fingerprint != fingerprint:
        reason = "was used for another request"
        errors = [{"field": "Idempotency-Key", "reason": reason}]
        raise Problem(422, "The idempotency key is taken", errors=errors)
    return known
