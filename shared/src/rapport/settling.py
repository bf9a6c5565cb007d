"""Waits until nothing is open in the whole suite, and moves its simulated clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import msgspec

from rapport.contracts.base import stream_of
from rapport.opsclient import OpsClient, RefusedError, UnreachableError, Urls, opened

AGAIN_SECONDS = 0.015
FIRST_PAUSE_SECONDS = 0.04
LONGEST_PAUSE_SECONDS = 0.2
GROWTH = 1.3
"""While something is open each pause is longer than the one before: looking costs time too."""
LONGEST_STEP = timedelta(days=1)
DEADLINE_SECONDS = 60.0

T = TypeVar("T")


class Inbound(msgspec.Struct):
    """One partition of the inbound topic: the next offset to apply, and the log's end."""

    position: int
    end: int


class ClockState(msgspec.Struct):
    """A service's clock: what time it is, and until when timers may fire."""

    now: datetime
    fire_until: datetime


class Standing(msgspec.Struct):
    """What one service has open; the answer of `GET /ops/settle`."""

    service: str
    clock: ClockState
    open_outbox: int = 0
    unsent: int = 0
    fork: str | None = None
    produced: dict[int, int] = msgspec.field(default_factory=dict)
    epoch: int = 1
    positions: dict[str, dict[int, int]] = msgspec.field(default_factory=dict)
    stopped: list[Any] = msgspec.field(default_factory=list)
    timers_due: int = 0
    pending: dict[str, int] = msgspec.field(default_factory=dict)
    inbound: dict[int, Inbound] = msgspec.field(default_factory=dict)
    next_due: datetime | None = None


Standings = Mapping[str, Standing]
OnStep = Callable[[datetime], Awaitable[None] | None]


class NotSettledError(Exception):
    """Something was still open at the deadline, or cannot move; `open` names it."""

    def __init__(self, open_: list[str]) -> None:
        """Name what is open, a line each."""
        super().__init__("; ".join(open_))
        self.open = open_


class PartitionStoppedError(NotSettledError):
    """A partition is stopped: its handler fails for everybody, so waiting is in vain."""


class ClockError(Exception):
    """The clock cannot be moved as asked."""


async def read_standings(client: OpsClient) -> Standings:
    """Ask all services at once; raises UnreachableError for one that does not answer."""
    answers = await asyncio.gather(*(client.get(name, "/ops/settle") for name in client.services))
    decoded = [msgspec.json.decode(answer.content, type=Standing) for answer in answers]
    return {standing.service: standing for standing in decoded}


def list_open(standings: Standings) -> list[str]:
    """Return what is open in the suite, a line for each thing."""
    found = [item for standing in standings.values() for item in _own(standing)]
    for consumer in standings.values():
        for producer in standings.values():
            if producer is not consumer:
                found += _lag(consumer, producer)
    return found


def _own(standing: Standing) -> Iterator[str]:
    name = standing.service
    if standing.open_outbox:
        yield f"{name}: {standing.open_outbox} outbox rows without a number"
    if standing.unsent:
        yield f"{name}: {standing.unsent} numbers not acknowledged by Kafka"
    if standing.timers_due:
        yield f"{name}: {standing.timers_due} timers due"
    for what, count in standing.pending.items():
        if count:
            yield f"{name}: {count} {what} pending"
    for partition, inbound in standing.inbound.items():
        unread = inbound.end - inbound.position
        if unread > 0:
            yield f"{name}: {unread} inbound records unread in partition {partition}"


def _lag(consumer: Standing, producer: Standing) -> Iterator[str]:
    stream = stream_of(producer.service)
    positions = consumer.positions.get(stream, {})
    for partition, produced in producer.produced.items():
        behind = produced - positions.get(partition, 0)
        if behind:
            place = f"{stream} partition {partition}"
            yield f"{consumer.service}: {behind} behind {produced} on {place}"


def _marks(standings: Standings) -> list[object]:
    return [
        (s.service, s.produced, s.positions, {p: i.position for p, i in s.inbound.items()})
        for s in standings.values()
    ]


async def settle(suite: Urls | OpsClient, deadline_seconds: float = DEADLINE_SECONDS) -> Standings:
    """Wait until two readings in a row have nothing open and equal numbers; return the last one.

    Open are: an outbox row, an unacknowledged tick, a lagging position, an unread inbound record, a
    timer due, and what a service calls pending (mails). Raises NotSettledError after the deadline,
    naming what is open, and PartitionStoppedError at once.
    """
    until = time.monotonic() + deadline_seconds
    pause = FIRST_PAUSE_SECONDS
    quiet: list[object] | None = None
    async with opened(suite) as client:
        while True:
            standings, still_open = await _look(client)
            if still_open:
                if time.monotonic() > until:
                    raise NotSettledError(still_open)
                quiet = None
                await asyncio.sleep(pause)
                pause = min(pause * GROWTH, LONGEST_PAUSE_SECONDS)
                continue
            marks = _marks(standings)
            if marks == quiet:
                return standings
            quiet, pause = marks, FIRST_PAUSE_SECONDS
            await asyncio.sleep(AGAIN_SECONDS)


async def _look(client: OpsClient) -> tuple[Standings, list[str]]:
    try:
        standings = await read_standings(client)
    except (UnreachableError, RefusedError) as error:
        _raise_lasting(error)
        return {}, [str(error)]
    stopped = [f"{s.service}: stopped: {part}" for s in standings.values() for part in s.stopped]
    stopped += [f"{s.service}: publishes nothing: {s.fork}" for s in standings.values() if s.fork]
    if stopped:
        raise PartitionStoppedError(stopped)
    return standings, list_open(standings)


def _raise_lasting(error: UnreachableError | RefusedError) -> None:
    """Raise a refusal again that asking once more would not change."""
    if isinstance(error, RefusedError) and not error.may_pass:
        raise error


async def set_clock(
    suite: Urls | OpsClient, now: datetime, deadline_seconds: float = DEADLINE_SECONDS
) -> None:
    """Set every service's simulated clock, and then, when all have it, let timers fire until then.

    A service that does not answer, or not yet, is asked again until the deadline.
    """
    async with opened(suite) as client:
        for name in ("now", "fire_until"):
            ask = partial(client.post_all, "/ops/clock", {name: now.isoformat()})
            await _insist(ask, deadline_seconds)


async def _insist(ask: Callable[[], Awaitable[T]], deadline_seconds: float) -> T:
    until = time.monotonic() + deadline_seconds
    while True:
        try:
            return await ask()
        except (UnreachableError, RefusedError) as error:
            _raise_lasting(error)
            if time.monotonic() > until:
                raise
        await asyncio.sleep(LONGEST_PAUSE_SECONDS)


async def advance_clock(
    suite: Urls | OpsClient,
    to: datetime,
    on_step: OnStep | None = None,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> Standings:
    """Move the suite's clock to `to`, from due instant to due instant, settling after each.

    No jump is longer than a day. `on_step` is told each instant reached; the deadline counts for
    each settling. Raises ClockError when `to` lies in the past, and what `settle` raises.
    """
    async with opened(suite) as client:
        standings = await settle(client, deadline_seconds)
        now = latest_clock(standings)
        if to < now:
            raise ClockError(f"the clock shows {now.isoformat()} and does not go back to {to}")
        if any(s.clock.now < now or s.clock.fire_until < now for s in standings.values()):
            standings = await _jump(client, now, deadline_seconds)
        while now < to:
            now = next_instant(standings, now, to)
            standings = await _jump(client, now, deadline_seconds)
            told = on_step(now) if on_step else None
            if told is not None:
                await told
        return standings


async def _jump(client: OpsClient, now: datetime, deadline_seconds: float) -> Standings:
    await set_clock(client, now, deadline_seconds)
    return await settle(client, deadline_seconds)


def latest_clock(standings: Standings) -> datetime:
    """Return the furthest clock: after an interrupted move the others have to follow."""
    return max(standing.clock.now for standing in standings.values())


def next_instant(standings: Standings, now: datetime, to: datetime) -> datetime:
    """Return where to jump from `now`: the next due instant, a day later, or `to`."""
    due = [s.next_due for s in standings.values() if s.next_due is not None and s.next_due > now]
    return min(to, now + LONGEST_STEP, *due)
