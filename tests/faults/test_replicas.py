"""Two replicas of every service: one of each is frozen for 30 s and woken, others are killed."""

from __future__ import annotations

import asyncio
import random
from datetime import date

import pytest

from rapport_local.shape import SERVICES
from tests.faults.conftest import StartCopy
from tests.faults.scene import BULK, SEED, Moment, Scene

pytestmark = pytest.mark.demo

UNTIL = date(1998, 2, 28)
FROZEN_SECONDS = 30.0
TAKEN_OVER_SECONDS = 12.0
"""Leases and Kafka sessions of what is frozen are over by then."""


class Trouble:
    """Freezes one replica of each service, and kills the other one of one of them meanwhile."""

    def __init__(self) -> None:
        """Draw who, and when."""
        chance = random.Random(f"{SEED} replicas")  # noqa: S311  a test's choice
        # The demo speaks HTTP to the first replica of contacts, which must not stand still.
        frozen = {service: chance.randrange(2) for service in SERVICES} | {"contacts": 1}
        self.frozen = [f"{service}-{replica}" for service, replica in frozen.items()]
        self.others = [f"{service}-{1 - replica}" for service, replica in frozen.items()]
        self.killed = chance.choice(self.others)
        self.begin = Moment(BULK, chance.uniform(0.0, 2.0))
        self.kill_after = chance.uniform(TAKEN_OVER_SECONDS, FROZEN_SECONDS - 5)

    async def disturb(self, scene: Scene) -> None:
        """Do it; the killed replica does alone what was two replicas' work."""
        await scene.wait_for(self.begin)
        async with asyncio.TaskGroup() as group:
            group.create_task(scene.freeze(self.frozen, FROZEN_SECONDS))
            group.create_task(self._kill(scene))

    async def _kill(self, scene: Scene) -> None:
        await asyncio.sleep(self.kill_after)
        await scene.kill(self.killed)


async def test_frozen_and_killed_replicas_change_no_total(start_copy: StartCopy) -> None:
    """Who wakes up finds its work taken over: every total agrees, and no mail went out twice."""
    trouble = Trouble()
    scene = Scene(start_copy(replicas=2), UNTIL)
    scene.say(f"seed {SEED}: freeze {trouble.frozen} {trouble.begin}; kill {trouble.killed}")

    report = await scene.live(trouble.disturb)

    assert [line for reading in report.readings for line in reading.differences] == []
    last = report.last
    assert last.mails["total"] == last.mails["distinct"] > 0
    assert scene.runtime.process(trouble.killed).restarts == 1
    assert all(scene.runtime.process(name).restarts == 0 for name in trouble.frozen)
    assert not await scene.list_open_attempts()
