"""A mailer in a process of its own, for tests that kill and freeze it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from notifications import mailer
from notifications.settings import Settings
from rapport.clock import Clock
from rapport.database import Database


async def main() -> None:
    """Hand over until killed; settings come from the environment."""
    settings = Settings()
    database = await Database.open(settings.database_dsn, Clock(simulated=True), size=4)
    service: Any = SimpleNamespace(
        database=database, settings=settings, leading=SimpleNamespace(listeners=[])
    )
    await mailer.run(service)


if __name__ == "__main__":
    asyncio.run(main())
