"""Puts the four services' figures side by side: what was produced against what was applied.

Per stream and consumer, produced = applied + parked + in flight, and no number between may be
missing; per stream, the outbox has a row for every number that was given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from rapport.opsclient import OpsClient, Urls, opened

Numbers = dict[int, int]


class OutboxRows(msgspec.Struct):
    """One partition's outbox: rows that are there, and numbers that were given."""

    rows: int
    numbered: int


class Gap(msgspec.Struct):
    """Numbers that no transaction of a consumer accounts for."""

    stream: str
    partition: int
    first: int
    last: int


class Statement(msgspec.Struct):
    """One service's side; the answer of `GET /ops/reconciliation`."""

    service: str
    stream: str
    produced: Numbers = msgspec.field(default_factory=dict)
    outbox: dict[int, OutboxRows] = msgspec.field(default_factory=dict)
    positions: dict[str, Numbers] = msgspec.field(default_factory=dict)
    parked: dict[str, Numbers] = msgspec.field(default_factory=dict)
    gaps: list[Gap] = msgspec.field(default_factory=list)
    fork: str | None = None


@dataclass(frozen=True)
class Consumed:
    """One stream at one consumer, over all partitions."""

    stream: str
    consumer: str
    produced: int
    applied: int
    parked: int
    in_flight: int
    missing: int


@dataclass(frozen=True)
class Written:
    """One stream's outbox, over all partitions."""

    stream: str
    numbered: int
    rows: int


@dataclass(frozen=True)
class Reconciliation:
    """Everything side by side; `differences` names what cannot be explained."""

    consumed: list[Consumed]
    written: list[Written]
    differences: list[str]

    @property
    def in_flight(self) -> int:
        """Events that some consumer has not reached."""
        return sum(line.in_flight for line in self.consumed)

    @property
    def parked(self) -> int:
        """Events that wait for a redrive."""
        return sum(line.parked for line in self.consumed)

    @property
    def missing(self) -> int:
        """Numbers that a consumer passed without accounting for them."""
        return sum(line.missing for line in self.consumed)


async def reconcile(suite: Urls | OpsClient, *, full: bool = True) -> Reconciliation:
    """Ask every service and compare; `full` also counts outbox rows and looks for gaps."""
    async with opened(suite) as client:
        answers = await client.get_all("/ops/reconciliation", full="true" if full else "false")
    return compare(
        [msgspec.convert(answer, Statement, strict=False) for answer in answers.values()]
    )


def compare(statements: Iterable[Statement]) -> Reconciliation:
    """Compare the services' statements."""
    listed = list(statements)
    pairs = [(p, c) for p in listed for c in listed if p is not c]
    return Reconciliation(
        consumed=[_consumed(producer, consumer) for producer, consumer in pairs],
        written=[_written(producer) for producer in listed if producer.outbox],
        differences=[
            *(f"{s.stream} is stopped: {s.fork}" for s in listed if s.fork),
            *(line for producer in listed for line in _outbox_differences(producer)),
            *(line for pair in pairs for line in _ahead(*pair)),
            *(line for consumer in listed for line in _gap_lines(consumer)),
        ],
    )


def _consumed(producer: Statement, consumer: Statement) -> Consumed:
    stream = producer.stream
    position = consumer.positions.get(stream, {})
    parked = sum(consumer.parked.get(stream, {}).values())
    missing = sum(g.last - g.first + 1 for g in consumer.gaps if g.stream == stream)
    behind = (max(0, number - position.get(p, 0)) for p, number in producer.produced.items())
    return Consumed(
        stream=stream,
        consumer=consumer.service,
        produced=sum(producer.produced.values()),
        applied=sum(position.values()) - parked - missing,
        parked=parked,
        in_flight=sum(behind),
        missing=missing,
    )


def _written(producer: Statement) -> Written:
    outbox = producer.outbox.values()
    return Written(producer.stream, sum(o.numbered for o in outbox), sum(o.rows for o in outbox))


def _outbox_differences(producer: Statement) -> Iterator[str]:
    for partition, outbox in sorted(producer.outbox.items()):
        surplus = outbox.rows - outbox.numbered
        if surplus:
            what = "too many" if surplus > 0 else "missing"
            place = f"{producer.service}: outbox of {producer.stream} partition {partition}"
            yield f"{place}: {abs(surplus)} rows {what} for {outbox.numbered} numbers"


def _ahead(producer: Statement, consumer: Statement) -> Iterator[str]:
    for partition, position in sorted(consumer.positions.get(producer.stream, {}).items()):
        produced = producer.produced.get(partition, 0)
        if position > produced:
            place = f"{producer.stream} partition {partition}"
            yield f"{consumer.service}: at {position} of {place}, where {produced} were produced"


def _gap_lines(consumer: Statement) -> Iterator[str]:
    for gap in consumer.gaps:
        place = f"{gap.stream} partition {gap.partition}"
        yield f"{consumer.service}: numbers {gap.first} to {gap.last} of {place} are missing"


def as_rows(reconciliation: Reconciliation) -> list[Mapping[str, Any]]:
    """Return the lines per stream and consumer as plain values, for JSON."""
    builtins: list[Mapping[str, Any]] = msgspec.to_builtins(reconciliation.consumed)
    return builtins
