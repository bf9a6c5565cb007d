"""The programme's parameters: versioned data; a purchase is judged by what was in force then."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Shortfall = Literal["debt", "absorb"]


@dataclass(frozen=True, slots=True)
class Programme:
    """One version, in force from `valid_from` until the next one.

    `points_per_unit` counts per whole unit of currency; `shortfall` says what happens to the part
    of a claw that no lot covers; `expiry_months` None means that points do not expire, `daily_cap`
    None that a member may earn any number of points on a local day.
    """

    version: int
    valid_from: datetime
    zone: str
    pending_days: int
    points_per_unit: int
    shortfall: Shortfall
    expiry_months: int | None
    daily_cap: int | None = None
    hold_minutes: int = 30


def in_force(programmes: Sequence[Programme], at: datetime) -> Programme:
    """Choose the version in force at an instant; the first one also counts before its time.

    Expects all versions, ordered by `valid_from` and version.
    """
    for programme in reversed(programmes):
        if programme.valid_from <= at:
            return programme
    return programmes[0]
