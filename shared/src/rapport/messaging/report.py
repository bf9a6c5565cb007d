"""What a runner says in logs and metrics about its transactions and about what waits."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from rapport import logs, metrics
from rapport.messaging.failure import describe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rapport.messaging.backlog import Backlog, Segment
    from rapport.messaging.batch import Condemned, Outcome
    from rapport.messaging.envelope import Envelope
    from rapport.messaging.failure import Verdict

log = structlog.get_logger()

ALARM_SECONDS = 30.0


def applied(stream: str, segments: Sequence[Segment], outcome: Outcome, seconds: float) -> None:
    """Measure a committed transaction."""
    events = sum(len(s.events) for s in segments)
    metrics.observe_batch(stream, seconds, events, outcome.waves)
    now = time.time()
    for s in segments:
        ages = [now - e.timestamp / 1000 for e in s.events]
        metrics.observe_effect_durations(stream, s.partition, ages)
        metrics.count_consumed(stream, s.partition, len(s.events) + s.skipped)
    for partition, count in outcome.parked.items():
        metrics.count_parked(stream, partition, count)


def failed(stream: str, segments: Sequence[Segment], verdict: Verdict, error: Exception) -> None:
    """Say that a transaction failed, and what its failure counts as."""
    log.warning(
        "batch_failed",
        stream=stream,
        partitions=[s.partition for s in segments],
        events=sum(len(s.events) for s in segments),
        verdict=verdict.value,
        sqlstate=getattr(error, "sqlstate", None),
        error=describe(error),
    )


def parked(event: Envelope, condemned: Condemned) -> None:
    """Say that an event was parked, and what to do about it."""
    with logs.bound(event_id=event.id, contact_id=event.key, traceparent=event.trace):
        log.error(
            "event_parked",
            stream=event.stream,
            partition=event.partition,
            sequence=event.number,
            attempts=condemned.attempts,
            first_failure=condemned.first_failed.isoformat(),
            error=condemned.error,
            next_action="rapport parked show, mend, rapport parked redrive",
        )


def stopped(stream: str, partition: int, error: str) -> None:
    """Say that so many contacts failed that it must be the handler."""
    log.critical(
        "partition_stopped",
        stream=stream,
        partition=partition,
        error=error,
        next_action="mend the handler; it goes on by itself",
    )


def waiting(stream: str, partition: int, backlog: Backlog) -> None:
    """Say, once in a while, what a partition has been waiting for."""
    if backlog.refused:
        log.critical("epoch_refused", stream=stream, partition=partition, error=backlog.refused)
    now = time.monotonic()
    if backlog.alarmed_at is not None and backlog.alarmed_at > now - ALARM_SECONDS:
        return
    if backlog.waits_for and now - backlog.waits_since > ALARM_SECONDS:
        backlog.alarmed_at = now
        waits_for = ":".join(map(str, backlog.waits_for))
        log.error("cause_missing", stream=stream, partition=partition, waits_for=waits_for)
    if backlog.gap_at is not None and now - backlog.gap_since > ALARM_SECONDS:
        backlog.alarmed_at = now
        log.error("numbers_missing", stream=stream, partition=partition, first=backlog.gap_at)
