"""When to try again after a refusal that may pass."""

from __future__ import annotations

FIRST_SECONDS = 1.0
LONGEST_SECONDS = 600.0


def retry_seconds(failures: int, chance: float) -> float:
    """Double the pause with each failure, up to ten minutes; `chance` in [0, 1) takes off half.

    Real seconds: a mail server's trouble passes in real time, whatever the business clock says.
    """
    longest = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(failures - 1, 16))
    return longest * (1 - chance / 2)
