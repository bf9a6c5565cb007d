"""Opaque cursors: the last row's sort key."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime
from uuid import UUID

from rapport.problem import Problem


def encode(at: datetime, row_id: UUID) -> str:
    """Write the position after a row."""
    return urlsafe_b64encode(f"{at.isoformat()} {row_id}".encode()).decode().rstrip("=")


def decode(cursor: str | None) -> tuple[datetime, UUID] | None:
    """Read a cursor that `encode` wrote; raises Problem 400 for anything else."""
    if cursor is None:
        return None
    try:
        at, row_id = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().split(" ")
        return datetime.fromisoformat(at).astimezone(UTC), UUID(row_id)
    except ValueError:
        raise Problem(
            400,
            "Bad cursor",
            "Use `next_cursor` of the page before, or leave the cursor out.",
            errors=[{"field": "cursor", "reason": "not a cursor of this list"}],
        ) from None
