"""Two replicas of every service: one of each is frozen for 30 s and woken, another one killed."""

from __future__ import annotations

import asyncio
import random
from datetime import date
from typing import TYPE_CHECKING

import httpx
import pytest

from rapport_local.plan import instance
from rapport_local.shape import SERVICES
from tests.faults.scene import BULK, PATIENCE_SECONDS, POLL_SECONDS, SEED, Moment, Scene

if TYPE_CHECKING:
    from rapport_local.supervisor import Runtime
    from tests.faults.conftest import StartCopy

pytestmark = pytest.mark.demo

UNTIL = date(1998, 1, 31)
HELD_ON = date(1998, 1, 17)
"""The life waits here until everybody is awake, so that they wake up to work."""
FROZEN_SECONDS = 30.0
TAKEN_OVER_SECONDS = 12.0
"""Leases and Kafka sessions of what is frozen are over by then."""


async def find_leader(runtime: Runtime, service: str) -> int:
    """Return which of the two replicas of a service leads."""
    async with asyncio.timeout(PATIENCE_SECONDS), httpx.AsyncClient(trust_env=False) as client:
        while True:
            for replica in (0, 1):
                answer = await client.get(runtime.ops_url(service, replica) + "/readyz")
                if answer.is_success and answer.json()["leader"]:
                    return replica
            await asyncio.sleep(POLL_SECONDS)


class Trouble:
    """Freezes one replica of each service, and kills the other one of one of them meanwhile."""

    def __init__(self, leaders: dict[str, int]) -> None:
        """Draw who, and when: of two services, and of notifications, it is the leader."""
        chance = random.Random(f"{SEED} replicas")  # noqa: S311  a test's choice
        led = {"notifications", *chance.sample(SERVICES, 2)}
        frozen = {s: leader if s in led else 1 - leader for s, leader in leaders.items()}
        self.leaders = [instance(service, leaders[service]) for service in sorted(led)]
        self.frozen = [instance(service, replica) for service, replica in frozen.items()]
        self.killed = chance.choice([instance(s, 1 - replica) for s, replica in frozen.items()])
        self.begin = Moment(BULK, chance.uniform(0.0, 1.2))
        self.kill_after = chance.uniform(TAKEN_OVER_SECONDS, FROZEN_SECONDS - 8)
        self.over = asyncio.Event()

    def __str__(self) -> str:
        """Say what will happen."""
        return (
            f"seed {SEED}: freezes {', '.join(self.frozen)} (leaders: {', '.join(self.leaders)})"
            f" {self.begin}; kills {self.killed} {self.kill_after:.1f} s later"
        )

    async def disturb(self, scene: Scene) -> None:
        """Do it."""
        await scene.wait_for(self.begin)
        async with asyncio.TaskGroup() as group:
            group.create_task(scene.freeze(self.frozen, FROZEN_SECONDS))
            group.create_task(self._kill(scene))
        self.over.set()

    async def _kill(self, scene: Scene) -> None:
        await asyncio.sleep(self.kill_after)
        await scene.kill(self.killed)


async def test_frozen_and_killed_replicas_change_no_total(start_copy: StartCopy) -> None:
    """Who wakes up finds its work taken over: every total agrees, and no mail went out twice."""
    runtime = start_copy(replicas=2)
    trouble = Trouble({service: await find_leader(runtime, service) for service in SERVICES})
    scene = Scene(runtime, UNTIL, avoid=trouble.frozen)
    scene.say(str(trouble))
    scene.hold(HELD_ON, trouble.over)

    report = await scene.live(trouble.disturb)

    assert [line for reading in report.readings for line in reading.differences] == []
    last = report.last
    assert last.mails["total"] == last.mails["distinct"] > 0
    assert runtime.process(trouble.killed).restarts == 1
    assert all(runtime.process(name).restarts == 0 for name in trouble.frozen)
    assert not await scene.list_open_attempts()
