"""A relay in a process of its own, to be frozen and woken: exits with 3 when its lease is lost."""

from __future__ import annotations

import asyncio
import sys

from rapport.database import connect
from rapport.messaging.lease import Lease, LeaseLostError
from rapport.messaging.relay import Relay

LEASE_LOST = 3
LEASE_SECONDS = 1.0


async def relay(dsn: str, bootstrap: str, stream: str, partitions: int) -> None:
    """Hold the lease and publish."""
    connection = await connect(dsn)
    lease = Lease(None, LEASE_SECONDS)
    await lease.acquire(connection)
    print("leading", flush=True)  # noqa: T201  read by the test
    async with asyncio.TaskGroup() as group:
        group.create_task(lease.keep(connection))
        group.create_task(Relay(dsn, bootstrap, stream, partitions).lead(lease))


if __name__ == "__main__":
    try:
        asyncio.run(relay(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
    except* LeaseLostError:
        sys.exit(LEASE_LOST)
