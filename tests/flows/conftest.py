"""One Postgres and one Kafka for all flows; fresh topics and databases for each test."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator

import pytest
from rapport_local.infra import Infra

from tests.flows.toys import Toys


@pytest.fixture(scope="session")
def infra() -> Iterator[Infra]:
    with Infra() as running:
        yield running


@pytest.fixture
async def toys(infra: Infra) -> AsyncIterator[Toys]:
    made = Toys(infra, f"t{secrets.token_hex(4)}")
    await made.fresh_topics()
    yield made
    await made.stop()
