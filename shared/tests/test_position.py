"""What a record's number means, and what a causal entry asks for."""

from __future__ import annotations

import pytest

from rapport.messaging import gate
from rapport.messaging.position import Step, step


@pytest.mark.parametrize(
    ("epoch", "number", "expected"),
    [
        (2, 8, Step.APPLY),
        (2, 7, Step.SKIP),
        (2, 1, Step.SKIP),
        (2, 9, Step.DISCARD),
        (1, 8, Step.DROP),
        (1, 900, Step.DROP),
        (3, 8, Step.REFUSE),
        (3, 1, Step.REFUSE),
    ],
)
def test_at_epoch_2_number_7(epoch: int, number: int, expected: Step) -> None:
    """A lower epoch is dropped; a higher one needs its opening record; a gap is read over."""
    assert step(2, 7, epoch, number) is expected


OWN = "loyalty.events.v1"
OTHER = "contacts.events.v1"


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], None),
        ([(OTHER, 1, 1, 10)], None),
        ([(OTHER, 1, 1, 11)], (OTHER, 1, 1, 11)),
        ([(OTHER, 1, 2, 1)], (OTHER, 1, 2, 1)),
        ([(OTHER, 0, 1, 1)], (OTHER, 0, 1, 1)),
        ([(OTHER, 0, 1, 0)], None),
        ([(OWN, 1, 1, 999)], None),
        ([(OTHER, 1, 1, 9), (OTHER, 1, 1, 12)], (OTHER, 1, 1, 12)),
    ],
)
def test_an_entry_is_met_by_committed_positions(
    entries: list[tuple[str, int, int, int]], expected: tuple[str, int, int, int] | None
) -> None:
    """The own stream is always met; a position never seen counts as nothing."""
    assert gate.first_unmet(entries, {(OTHER, 1): (1, 10)}, OWN) == expected
