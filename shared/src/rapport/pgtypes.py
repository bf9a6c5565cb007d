"""Types of asyncpg's connections, for annotations."""

from __future__ import annotations

from typing import TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
"""A connection of one's own, or one lent by a pool."""


def required(row: asyncpg.Record | None) -> asyncpg.Record:
    """Return a row that the statement always gives; raises LookupError."""
    if row is None:
        raise LookupError("the statement gave no row")
    return row
