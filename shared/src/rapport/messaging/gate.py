"""The causal gate: nothing is applied before what its producer had seen.

An event's causal entries name positions of other streams. It passes when this service's committed
positions have reached them all; an entry of the consumer's own stream is always met, and one of
the event's own partition holds by its number alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rapport.messaging.envelope import Entry, Envelope

Reached = dict[tuple[str, int], tuple[int, int]]
"""Committed (epoch, number) per (stream, partition)."""


def unmet(envelope: Envelope, reached: Reached, own_stream: str) -> Entry | None:
    """Return the first causal entry that is not reached yet, None when the event may pass."""
    return first_unmet(envelope.entries, reached, own_stream)


def first_unmet(entries: Iterable[Entry], reached: Reached, own_stream: str) -> Entry | None:
    """Return the first of `entries` above `reached`; positions never seen count as nothing."""
    for entry in entries:
        stream, partition, epoch, number = entry
        if stream == own_stream or number == 0:
            continue
        if reached.get((stream, partition), (0, 0)) < (epoch, number):
            return entry
    return None
