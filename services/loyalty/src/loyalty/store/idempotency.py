"""First answers to writes that named an Idempotency-Key."""

from dataclasses import dataclass
from uuid import UUID

import asyncpg

from rapport.messaging.transaction import Tx


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer as it was first given, with the hash of the request that got it."""

    fingerprint: bytes
    contact_id: UUID | None
    status: int
    headers: dict[str, str]
    body: str


async def find_answer(tx: Tx, key: str) -> StoredAnswer | None:
    """Return the answer that was given to this key."""
    row = await tx.fetchrow(
        "select fingerprint, contact_id, status, headers, body from idempotency where key = $1",
        key,
    )
    return StoredAnswer(*row) if row else None


async def add_answer(tx: Tx, key: str, answer: StoredAnswer) -> None:
    """Keep an answer.

    Raises SerializationError when the same key was answered at the same time: run again.
    """
    tag = await tx.execute(
        """
        insert into idempotency (key, fingerprint, contact_id, status, headers, body, answered_at)
        values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing
        """,
        key,
        answer.fingerprint,
        answer.contact_id,
        answer.status,
        answer.headers,
        answer.body,
        tx.now,
    )
    if tag != "INSERT 0 1":
        raise asyncpg.SerializationError("an idempotency key was used at the same time")
