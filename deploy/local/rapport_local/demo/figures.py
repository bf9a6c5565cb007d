"""Measures from tables: how long after its writing an event of contacts had its effect."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from rapport.contracts.base import stream_of
from rapport.messaging.tick import Snapshot
from rapport_local.demo.access import Access

PRODUCER = "contacts"
CONSUMERS = ("loyalty", "notifications", "analytics")
TICKS = """
select number, snapshot, before, partitions from rapport.tick where cut_at >= $1 order by number
"""
ROWS = """
select xid::text::bigint as xid, hash, written_at from rapport.outbox
where written_at >= $1 order by number
"""
EFFECTS = """
select partition, last_number, committed_at from rapport.batch_log
where stream = $1 and committed_at >= $2 order by partition, last_number
"""

Written = Mapping[int, Sequence[tuple[int, datetime]]]
"""Partition to (number, time of writing)."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds from an outbox row's writing to the end of the transaction of its effect."""

    events: int
    p50: float
    p99: float


async def measure_latency(access: Access, since: datetime) -> dict[str, Latency]:
    """Return each consumer's latency for the events of contacts written from an instant on.

    Nothing may have been open at that instant: numbers are counted from the first tick after it.
    """
    written = await _read_written(access.dsn(PRODUCER), since)
    found = {}
    for consumer in CONSUMERS:
        seconds = await _read_delays(access.dsn(consumer), written, since)
        if seconds:
            found[consumer] = summarise(seconds)
    return found


def summarise(seconds: Sequence[float]) -> Latency:
    """Return count, median and 99th percentile."""
    ordered = sorted(seconds)
    p50, p99 = (ordered[min(len(ordered) - 1, int(len(ordered) * q))] for q in (0.5, 0.99))
    return Latency(len(ordered), round(p50 * 1000, 1), round(p99 * 1000, 1))


async def _read_written(dsn: str, since: datetime) -> Written:
    connection = await asyncpg.connect(dsn)
    try:
        ticks = await connection.fetch(TICKS, since)
        rows = await connection.fetch(ROWS, since)
    finally:
        await connection.close()
    return number_rows(ticks, rows)


def number_rows(ticks: Sequence[Any], rows: Sequence[Any]) -> Written:
    """Give rows the numbers that the ticks gave them: per partition, in identity order."""
    snapshots = [Snapshot.parse(tick["snapshot"]) for tick in ticks]
    borders = [snapshot.xmax for snapshot in snapshots]
    by_tick: defaultdict[int, list[Any]] = defaultdict(list)
    for row in rows:
        index = bisect_right(borders, row["xid"])
        while index < len(snapshots) and row["xid"] in snapshots[index].running:
            index += 1
        by_tick[index].append(row)
    written: defaultdict[int, list[tuple[int, datetime]]] = defaultdict(list)
    for index, tick in enumerate(ticks):
        last = list(tick["before"])
        for row in by_tick[index]:
            partition = row["hash"] % tick["partitions"]
            last[partition] += 1
            written[partition].append((last[partition], row["written_at"]))
    return written


async def _read_delays(dsn: str, written: Written, since: datetime) -> list[float]:
    connection = await asyncpg.connect(dsn)
    try:
        effects = await connection.fetch(EFFECTS, stream_of(PRODUCER), since)
    finally:
        await connection.close()
    return [seconds for p in written for seconds in delays(written[p], _of(effects, p))]


def _of(effects: Sequence[Any], partition: int) -> list[tuple[int, datetime]]:
    return [(e["last_number"], e["committed_at"]) for e in effects if e["partition"] == partition]


def delays(
    written: Sequence[tuple[int, datetime]], effects: Sequence[tuple[int, datetime]]
) -> list[float]:
    """Return the seconds from each number's writing to the transaction that covers it."""
    lasts = [last for last, _ in effects]
    found = []
    for number, at in written:
        index = bisect_left(lasts, number)
        if index < len(effects):
            found.append((effects[index][1] - at).total_seconds())
    return found
