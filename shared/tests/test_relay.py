"""What the relay does when its tasks do not end at once."""

from __future__ import annotations

import asyncio

from rapport.messaging import relay


async def test_a_swallowed_cancellation_is_repeated() -> None:
    """`asyncio.wait_for` of Python 3.11 loses one that comes with the result."""
    started = asyncio.Event()

    async def stubborn() -> None:
        try:
            started.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.Event().wait()

    task = asyncio.create_task(stubborn())
    await started.wait()
    async with asyncio.timeout(5):
        await relay._end([task])
    assert task.cancelled()
