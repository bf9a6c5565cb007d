"""What the service's database holds in the beginning, and the instant at which its tests stand."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from rapport.messaging.transaction import Tx
from rapport.migrate import migrate
from rapport.pgtypes import Connection
from rapport_local.infra import Infra

NOW = datetime(1998, 7, 1, 10, tzinfo=UTC)


@pytest.fixture(scope="session")
async def template(postgres: Infra) -> str:
    """A migrated database."""
    dsn = postgres.create_database("analytics")
    await migrate(dsn, "analytics")
    return dsn


@pytest.fixture
async def tx(rolled_back: Connection) -> Tx:
    """A transaction at noon of 1998-07-01 in Prague, rolled back after the test."""
    return Tx(rolled_back, NOW)
