"""Every container killed, frozen, cut off, restarted under load: same totals, no mail twice."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime
from functools import partial

import pytest
from testcontainers.core.container import DockerContainer

from rapport.contracts.registry import SERVICES
from rapport.messaging.subscriber import SESSION_TIMEOUT_MS
from rapport.settling import set_clock
from rapport.testing import faults
from rapport.testing.containers import log_of
from rapport.testing.inprocess import until
from rapport.testing.suite import Suite
from tests.e2e.load import NOW, SEED, Load, find_leader
from tests.e2e.till import Till

SECONDS = {"kafka": 12.0, "postgres": 12.0, "sink": 5.0, "leaders": 14.0}
"""How long something is away: longer than leases and Kafka's sessions, which are 10 s."""
LOADED_SECONDS = 6.0
"""How long buying goes on after a fault: for ever, a slow machine would never be through."""
LASTING: dict[str, Callable[[DockerContainer], AbstractContextManager[None]]] = {
    "freeze": faults.frozen,
    "cut-off": faults.cut_off,
}
KILLED = ["kafka", "postgres", "sink", *SERVICES]
CASES = [("kill", target) for target in KILLED] + [
    (f, target) for f in LASTING for target in SECONDS
]
STABILIZED = re.compile(r"Stabilized group (\S+) generation (\d+) with (\d+) members")
STOPPED_SECONDS = 10.0


@pytest.fixture(scope="module")
async def till(suite: Suite) -> AsyncIterator[Till]:
    """Start the clock, and publish."""
    await set_clock(suite.ops_urls, datetime.fromisoformat(NOW))
    async with Till(suite) as till:
        yield till


@pytest.mark.parametrize(("fault", "target"), CASES, ids=lambda value: value)
async def test_totals_survive(suite: Suite, till: Till, fault: str, target: str) -> None:
    """`leaders` are one replica of each service: of two the one that numbers and sends."""
    load = Load(suite, till, f"{fault}-{target}")
    names = await _names(suite, target)
    await load.register()
    async with asyncio.TaskGroup() as group:
        group.create_task(load.buy())
        await asyncio.sleep(load.chance.uniform(0.5, 1.5))  # the moment; nothing is waited for
        in_flight = await load.wait_in_flight()
        begun = time.monotonic()
        probing = group.create_task(load.probe())
        away = SECONDS[target] if fault in LASTING else 0.0
        await asyncio.to_thread(_do, fault, [suite[name] for name in names], away)
        over = time.monotonic()
        await asyncio.wait({probing}, timeout=LOADED_SECONDS)
        load.stop()
        thanked = await probing
    await load.check()
    settled = time.monotonic() - over
    print(  # noqa: T201  figures
        f"seed {SEED}: {fault} {', '.join(names)} for {over - begun:.1f} s, {in_flight} events in"
        f" flight; who bought at its beginning was thanked after {thanked:.1f} s, nothing was open"
        f" {settled:.1f} s after its end; {load.purchases} purchases"
    )


async def _names(suite: Suite, target: str) -> list[str]:
    if target == "leaders":
        return [await find_leader(suite, service) for service in SERVICES]
    return [await find_leader(suite, target) if target in SERVICES else target]


def _do(fault: str, containers: list[DockerContainer], seconds: float) -> None:
    if fault not in LASTING:
        for container in containers:
            faults.kill(container)
            faults.start(container)
        return
    with ExitStack() as stack:
        for container in containers:
            stack.enter_context(LASTING[fault](container))
        time.sleep(seconds)  # the fault itself


async def test_rolling_restart(suite: Suite, till: Till) -> None:
    """SIGTERM and start of all replicas in turn: no group is balanced anew more than once each."""
    load = Load(suite, till, "rolling")
    await load.register()
    await until(partial(_is_complete, suite), "every replica is a member of its groups", 60)
    first = last = read_generations(suite)
    async with asyncio.TaskGroup() as group:
        group.create_task(load.buy())
        in_flight = await load.wait_in_flight()
        for name in suite.replicas:
            took = await asyncio.to_thread(_restart, suite, name)
            before, last = last, read_generations(suite)
            moved = {group: number - before[group] for group, number in last.items()}
            # on a machine so slow that Kafka gives a member up, it leaves and comes back
            most = 1 if took < SESSION_TIMEOUT_MS / 1000 else 2
            assert max(moved.values()) <= most, (name, took, moved)
            print(f"{name} ready again after {took:.1f} s, {sum(moved.values())} rebalances")  # noqa: T201
        load.stop()
    await load.check()
    rebalances = sum(read_generations(suite).values()) - sum(first.values())
    print(  # noqa: T201  figures
        f"seed {SEED}: rolling restart of {len(suite.replicas)} replicas, {in_flight} events in"
        f" flight at its beginning, {load.purchases} purchases, {rebalances} rebalances"
    )


def _restart(suite: Suite, name: str) -> float:
    begun = time.monotonic()
    assert faults.stop(suite[name]) == 0
    assert time.monotonic() - begun < STOPPED_SECONDS
    faults.start(suite[name])
    suite.wait_ready(name)
    return time.monotonic() - begun


def read_generations(suite: Suite) -> dict[str, int]:
    """Return how often each consumer group was balanced, as Kafka's log tells."""
    return {group: int(number) for group, number, _ in STABILIZED.findall(log_of(suite["kafka"]))}


async def _is_complete(suite: Suite) -> bool:
    """Tell whether nobody is missing that an earlier fault threw out."""
    found = STABILIZED.findall(await asyncio.to_thread(log_of, suite["kafka"]))
    members = {group: int(count) for group, _, count in found}
    return set(members.values()) == {len(suite.replicas) // len(SERVICES)}
