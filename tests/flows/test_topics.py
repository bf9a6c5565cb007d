"""Topics on a real Kafka: created once, and drift is reported."""

from __future__ import annotations

import secrets
from datetime import timedelta

import pytest

from rapport import topics
from rapport.topics import TopicPlan, apply_topics, check_topics
from rapport_local.infra import Infra


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Topics of this test alone."""
    chosen = tuple(f"{name}.{secrets.token_hex(4)}" for name in ("first", "second"))
    monkeypatch.setattr(topics, "TOPICS", chosen)
    return chosen


async def test_missing_topics_are_created_once(infra: Infra, names: tuple[str, ...]) -> None:
    plan = TopicPlan(partitions=3)

    missing = await check_topics(infra.kafka, plan)
    first = await apply_topics(infra.kafka, plan)
    second = await apply_topics(infra.kafka, plan)

    assert [(drift.topic, drift.found) for drift in missing] == [(n, "missing") for n in names]
    assert first == (list(names), [])
    assert second == ([], [])
    assert await check_topics(infra.kafka, plan) == []


async def test_drift_is_named_and_more_retention_is_none(
    infra: Infra, names: tuple[str, ...]
) -> None:
    await apply_topics(infra.kafka, TopicPlan(partitions=3))

    more = TopicPlan(partitions=4, retention=timedelta(days=15))
    less = TopicPlan(partitions=3, retention=timedelta(days=13))

    found = {(d.topic, d.what, d.wanted, d.found) for d in await check_topics(infra.kafka, more)}
    assert (names[0], "partitions", "4", "3") in found
    assert {what for _, what, _, _ in found} == {"partitions", "retention.ms"}
    assert await check_topics(infra.kafka, less) == []
