"""One Postgres and one Kafka for all flows; fresh topics and databases for each test."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from rapport_local.infra import Infra
from tests.flows.leader import Leader
from tests.flows.toys import Toys


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs Kafka and Postgres."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.flow)


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


@pytest.fixture
async def leaders() -> AsyncIterator[list[Leader]]:
    made: list[Leader] = []
    yield made
    for leader in made:
        await leader.stop()
