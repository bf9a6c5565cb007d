"""`kill -9` of each process in the middle of the demo changes no total and loses no mail."""

from __future__ import annotations

from datetime import date, timedelta
from uuid import UUID

import pytest

from tests.faults.conftest import StartCopy
from tests.faults.scene import SEED, Moment, Scene, draw_moments

pytestmark = pytest.mark.demo

UNTIL = date(1998, 1, 16)
DAYS = [date(1998, 1, 3) + timedelta(days=n) for n in range(10)]
PROCESSES = ("contacts", "loyalty", "notifications", "analytics", "kafka", "postgres")
RESOLVED = {"sent", "lost"}


class Killer:
    """Kills one process in the bulk, before a mail is accepted, and right after that."""

    def __init__(self, name: str) -> None:
        """Draw the moments."""
        self.name = name
        self.moments = draw_moments(name, DAYS, count=2)
        self.done: list[Moment] = []
        self.in_flight: set[UUID] = set()

    async def disturb(self, scene: Scene) -> None:
        """Wait for each moment and kill."""
        for moment in self.moments:
            await scene.wait_for(moment)
            if moment is not self.moments[0]:
                await scene.wait_for_mail(accepted=moment is self.moments[-1])
            await scene.kill(self.name)
            self.done.append(moment)
            self.in_flight |= await scene.list_open_attempts()


@pytest.mark.parametrize("name", PROCESSES)
async def test_kills_change_no_total(start_copy: StartCopy, name: str) -> None:
    """Every total agrees with the independent count, and each mail arrived once."""
    killer = Killer(name)
    scene = Scene(start_copy(), UNTIL)
    scene.say(f"seed {SEED}: kill -9 {name} at {', '.join(map(str, killer.moments))}")

    report = await scene.live(killer.disturb)

    assert [line for reading in report.readings for line in reading.differences] == []
    assert killer.done == killer.moments
    assert scene.runtime.process(name).restarts == len(killer.done)
    ends = await scene.list_ends(killer.in_flight)
    scene.say(f"{len(ends)} mails were in flight at a kill: {ends}")
    assert set(ends) <= RESOLVED
    assert "sent" in ends or name != "notifications"
