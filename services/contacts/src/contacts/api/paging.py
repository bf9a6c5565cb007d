"""Cursors: opaque to clients, the last row's sort key to us."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

import orjson
from fastapi import Query
from pydantic import BaseModel

from rapport.problem import Problem

T = TypeVar("T")

Limit = Annotated[int, Query(ge=1, le=200)]
Cursor = Annotated[str | None, Query(max_length=1000)]

LATEST = datetime(9999, 12, 31, tzinfo=UTC)
LAST_ID = UUID(int=2**128 - 1)


class Page(BaseModel, Generic[T]):
    """Some rows; `next_cursor` asks for those behind them, null when there are none."""

    items: list[T]
    next_cursor: str | None = None


def encode(*key: object) -> str:
    """Return the cursor that continues behind a row."""
    return urlsafe_b64encode(orjson.dumps([str(part) for part in key])).decode().rstrip("=")


def _decode(cursor: str, size: int) -> list[str]:
    try:
        key = orjson.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except ValueError:
        raise _invalid() from None
    if not isinstance(key, list) or len(key) != size or not all(isinstance(p, str) for p in key):
        raise _invalid()
    if any("\0" in part for part in key):
        raise _invalid()
    return key


def _invalid() -> Problem:
    errors = [{"field": "cursor", "reason": "is not one of ours"}]
    return Problem(422, "The cursor is not valid", errors=errors)


def text_after(cursor: str | None) -> str:
    """Return the name behind which a list by name continues."""
    return _decode(cursor, 1)[0] if cursor else ""


def id_after(cursor: str | None) -> UUID:
    """Return the id behind which a list by id continues."""
    try:
        return UUID(_decode(cursor, 1)[0]) if cursor else UUID(int=0)
    except ValueError:
        raise _invalid() from None


def time_before(cursor: str | None) -> tuple[datetime, UUID]:
    """Return (time, id) before which a list from the newest on continues."""
    if not cursor:
        return LATEST, LAST_ID
    time, id_ = _decode(cursor, 2)
    try:
        return datetime.fromisoformat(time).astimezone(UTC), UUID(id_)
    except (ValueError, OverflowError):
        raise _invalid() from None


def page_of(rows: Sequence[T], limit: int, *key: str) -> dict[str, Any]:
    """Cut one row more than asked for into a page; `key` names the sort columns."""
    shown = rows[:limit]
    if len(rows) <= limit:
        return {"items": shown, "next_cursor": None}
    last = shown[-1]
    values = [last[k] if isinstance(last, dict) else getattr(last, k) for k in key]
    return {"items": shown, "next_cursor": encode(*values)}
