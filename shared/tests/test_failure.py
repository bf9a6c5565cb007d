"""Failure classes: every SQLSTATE class that the design names, and what hides them."""

from __future__ import annotations

import asyncpg
import msgspec
import pytest

from rapport.messaging.failure import BatchDeadlineError, DecodingError, Verdict, classify

RETRIED = "08000 08006 40001 40P01 42703 42P01 53100 53300 55P03 57P01 57P03 58030 25006 XX000"
UNKNOWN = "0A000 25P02 P0004 99999"
PARKED = "22001 22003 22P02 23502 23503 23505 23514 P0001"
HALVED = "57014 25P04"


def postgres(state: str) -> asyncpg.PostgresError:
    error: asyncpg.PostgresError = asyncpg.PostgresError.new({"C": state, "M": "made for a test"})
    assert error.sqlstate == state
    return error


@pytest.mark.parametrize(
    ("states", "verdict"),
    [
        (RETRIED, Verdict.RETRY),
        (UNKNOWN, Verdict.RETRY),
        (PARKED, Verdict.PARK),
        (HALVED, Verdict.HALVE),
    ],
)
def test_by_sqlstate(states: str, verdict: Verdict) -> None:
    for state in states.split():
        assert classify(postgres(state)) is verdict, state


@pytest.mark.parametrize(
    "lost",
    [
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.InternalClientError("cannot switch to state 15; another operation is in progress"),
        asyncpg.exceptions.ConnectionDoesNotExistError("gone"),
        ConnectionResetError("reset"),
        OSError("no route"),
    ],
)
def test_a_lost_connection_counts_whatever_is_raised_on_top(lost: Exception) -> None:
    assert classify(lost) is Verdict.RETRY
    on_top = ValueError("the handler's own")
    on_top.__cause__ = postgres("23505")
    on_top.__cause__.__context__ = lost
    assert classify(on_top) is Verdict.RETRY


def test_the_first_sqlstate_on_the_chain_counts() -> None:
    hidden = KeyError("lost in translation")
    hidden.__context__ = postgres("40001")
    hidden.__suppress_context__ = True
    assert classify(hidden) is Verdict.RETRY
    above = postgres("22003")
    above.__cause__ = postgres("40001")
    assert classify(above) is Verdict.PARK


def test_what_is_neither_database_nor_connection() -> None:
    assert classify(DecodingError("purchase: no field")) is Verdict.PARK
    assert classify(msgspec.DecodeError("truncated")) is Verdict.PARK
    assert classify(ZeroDivisionError()) is Verdict.PARK
    assert classify(MemoryError()) is Verdict.RETRY
    assert classify(BatchDeadlineError()) is Verdict.HALVE
    assert classify(ExceptionGroup("several", [KeyError(1), postgres("40P01")])) is Verdict.RETRY


def test_a_chain_that_bites_its_tail_ends() -> None:
    first, second = ValueError(1), ValueError(2)
    first.__context__, second.__context__ = second, first
    assert classify(first) is Verdict.PARK
