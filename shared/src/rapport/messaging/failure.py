"""Failure classes: what a failed transaction means for the events in it."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import asyncpg

from rapport import redaction

if TYPE_CHECKING:
    from collections.abc import Iterator


class Verdict(enum.Enum):
    """RETRY for ever with backoff; HALVE the prefix; PARK after failing alone three times."""

    RETRY = "retry"
    HALVE = "halve"
    PARK = "park"


class BatchDeadlineError(Exception):
    """A transaction took longer than half of `transaction_timeout`."""


class DecodingError(Exception):
    """A numbered record's body is not what its type says."""


HALVE_STATES = ("57014", "25P04")
PARK_CLASSES = ("22", "23", "P0")
# InternalClientError is what asyncpg says when a connection dies between two of its states.
CONNECTION_LOST = (
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.exceptions.ConnectionDoesNotExistError,
    OSError,
)


def classify(error: BaseException) -> Verdict:
    """Classify by the first SQLSTATE on the chain of causes and contexts.

    Our own deadline says nothing else. A closed connection anywhere on the chain counts as class
    08, whatever was raised on top. An unknown SQLSTATE, MemoryError and read-only transactions
    are tried again for ever.
    """
    if isinstance(error, BatchDeadlineError):
        return Verdict.HALVE
    chain = list(_chain(error))
    if any(_is_lost(link) for link in chain):
        return Verdict.RETRY
    for link in chain:
        if state := _state(link):
            return _verdict_of(state)
    if any(isinstance(link, MemoryError) for link in chain):
        return Verdict.RETRY
    return Verdict.PARK


def _verdict_of(state: str) -> Verdict:
    if state in HALVE_STATES:
        return Verdict.HALVE
    if state[:2] in PARK_CLASSES and state != "P0004":
        return Verdict.PARK
    return Verdict.RETRY


def _is_lost(error: BaseException) -> bool:
    return isinstance(error, CONNECTION_LOST) or _state(error)[:2] == "08"


def describe(error: BaseException) -> str:
    """Return class and message, as Postgres can hold them, masked where they quote values.

    It is stored, listed and logged, so the values in Postgres' `detail` are left out.
    """
    return storable(redaction.text(f"{type(error).__name__}: {error}")[:500])


def storable(text: str) -> str:
    """Replace what a text column refuses: NUL and lone surrogates."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def _state(error: BaseException) -> str:
    return getattr(error, "sqlstate", None) or ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    queue = [error]
    while queue:
        link = queue.pop(0)
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        if isinstance(link, BaseExceptionGroup):
            queue.extend(link.exceptions)
        queue.extend(e for e in (link.__cause__, link.__context__) if e is not None)
