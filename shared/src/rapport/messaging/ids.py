"""Deterministic identifiers, key hashes and partitions."""

from __future__ import annotations

import os
import time
from hashlib import blake2b
from typing import TYPE_CHECKING

from asyncpg.pgproto import pgproto

if TYPE_CHECKING:
    from uuid import UUID

_VERSION_8 = 0x8000
_VARIANT = 0x8000000000000000


def derived_id(*parts: object) -> UUID:
    """UUIDv8 (RFC 9562) from the BLAKE2b digest of the parts; the same parts give the same id."""
    digest = blake2b("\x1f".join(map(str, parts)).encode(), digest_size=16).digest()
    high, low = int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")
    high = (high & ~0xF000) | _VERSION_8
    low = (low & 0x3FFFFFFFFFFFFFFF) | _VARIANT
    return pgproto.UUID((high << 64 | low).to_bytes(16, "big"))


def drawn_id() -> UUID:
    """UUIDv7 (RFC 9562): 48 bits of Unix milliseconds, then random bits."""
    random = int.from_bytes(os.urandom(10), "big")
    value = (time.time_ns() // 1_000_000 & 0xFFFFFFFFFFFF) << 80 | random
    value = (value & ~(0xF << 76)) | 0x7 << 76
    value = (value & ~(0x3 << 62)) | 0x2 << 62
    return pgproto.UUID(value.to_bytes(16, "big"))


def key_hash(key: UUID) -> int:
    """63-bit hash of the key's lower-case text; `hash % count` is the partition, also in SQL."""
    return int.from_bytes(blake2b(str(key).encode(), digest_size=8).digest(), "big") >> 1
