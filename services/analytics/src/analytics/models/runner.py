"""Runs a model in a process of its own: the event loop goes on, and the memory is given back."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

DAYS_A_WEEK = 7
# One thread: a second one of the linear algebra only spins while the services use its core.
COMMAND = ("env", "OPENBLAS_NUM_THREADS=1", sys.executable, "-m", "analytics.models.fit")
_one_at_a_time = asyncio.Lock()


class ModelFailedError(Exception):
    """The subprocess did not answer in time, or died."""


def question(
    patterns: list[tuple[int, int, int, int]],
    individual: tuple[int, int, int] | None,
    weeks: float,
) -> dict[str, Any]:
    """Turn (repeats, recency, age, customers), in days, into what the subprocess reads."""
    return {
        "customers": [(x, r / DAYS_A_WEEK, t / DAYS_A_WEEK, n) for x, r, t, n in patterns],
        "individual": individual
        and (individual[0], individual[1] / DAYS_A_WEEK, individual[2] / DAYS_A_WEEK),
        "weeks": weeks,
    }


async def fit(asked: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Answer one question, `{"unknown": reason}` included; raises ModelFailedError."""
    async with _one_at_a_time:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(
                process.communicate(json.dumps(asked).encode()), seconds
            )
        except TimeoutError:
            raise ModelFailedError(f"the fit took longer than {seconds:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    if process.returncode:
        last = err.decode(errors="replace").strip().rsplit("\n", 1)[-1]
        raise ModelFailedError(f"the fit ended with status {process.returncode}: {last}")
    answered: dict[str, Any] = json.loads(out)
    return answered
