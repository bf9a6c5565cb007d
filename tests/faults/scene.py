"""The demo's life with somebody who disturbs it at chosen moments."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from uuid import UUID

import asyncpg

from rapport.settling import settle
from rapport_local.demo.access import Access
from rapport_local.demo.display import Display, Phase
from rapport_local.demo.main import Demo, parse
from rapport_local.demo.report import Report
from rapport_local.plan import instance, port_name
from rapport_local.shape import SERVICES
from rapport_local.state import State
from rapport_local.supervisor import Runtime

SEED = os.environ.get("RAPPORT_FAULT_SEED", "1998")
"""Another one gives other moments; each test prints them."""
SCALE = "100"
BULK = "customers and sales of 1997"
POLL_SECONDS = 0.01
PATIENCE_SECONDS = 90.0
SLOW_MAIL = [{"step": "data", "delay_seconds": 0.25}]
"""So that a hand-over takes long enough to be met before the mail is accepted."""
SLOWER_MAIL = [{"step": "content", "delay_seconds": 2.0}]
"""So that it can be met after that, too."""
OPEN_ATTEMPTS = "select id from attempt where state in ('sending', 'unknown')"
SENT = "select id from message where state = 'sent'"
ENDED_ATTEMPTS = "select state from attempt where id = any($1::uuid[])"


@dataclass(frozen=True)
class Moment:
    """So many seconds after the life came to `mark`: a phase's title, or a day of 1998."""

    mark: str
    seconds: float

    def __str__(self) -> str:
        """Say when."""
        return f"{self.seconds:.2f} s into {self.mark}"


class Marked(Phase):
    """A phase that tells to which day the life has come."""

    reached: defaultdict[str, asyncio.Event]

    def note(self, text: str) -> None:
        """Tell the day, besides showing it."""
        super().note(text)
        self.reached[text].set()


class Marks(Display):
    """Tells how far the life has come, besides showing it."""

    def __init__(self) -> None:
        """Begin with nothing reached."""
        super().__init__()
        self.reached: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    @contextmanager
    def phase(self, title: str, total: int) -> Iterator[Phase]:
        """Show a phase and tell its beginning."""
        with super().phase(title, total) as phase:
            self.reached[title].set()
            marked = Marked(phase.progress, phase.task)
            marked.reached = self.reached
            yield marked


class Scene:
    """A running copy, its life, and what can be done to it meanwhile."""

    def __init__(self, runtime: Runtime, until: date, avoid: Collection[str] = ()) -> None:
        """Take a copy that has just been started, and the last day of its life.

        The demo asks second replicas first where `avoid` names the first one.
        """
        self.runtime = runtime
        self.access = Access(_avoiding(runtime.state(), avoid))
        self._marks = Marks()
        self._until = until
        options = parse(["--scale", SCALE, "--until", until.isoformat()])
        self._demo = Demo(options, self.access, self._marks)
        self._begun = time.monotonic()

    async def live(self, disturb: Callable[[Scene], Coroutine[None, None, None]]) -> Report:
        """Live through the demo, disturbed; return what it found at its end, and once more later.

        What was still going on when the totals were read is over at the second reading.
        """
        await self._tell_sink(SLOW_MAIL)
        async with asyncio.TaskGroup() as group:
            group.create_task(disturb(self))
            report = await self._demo.run()
        await settle(self.access.ops, PATIENCE_SECONDS)
        await self._demo.read(self._until)
        return report

    def hold(self, day: date, until: asyncio.Event) -> None:
        """Let the life wait at the end of a day until something has happened."""

        async def wait(last_day: date) -> None:
            if last_day == day:
                self.say(f"{day} is over")
                await until.wait()

        self._demo.life.on_step = wait

    def say(self, line: str) -> None:
        """Say what happens, with the seconds since the start."""
        self._marks.say(f"{time.monotonic() - self._begun:6.1f} s: {line}")

    async def wait_for(self, moment: Moment) -> None:
        """Wait until the life comes to a moment."""
        await self._marks.reached[moment.mark].wait()
        await asyncio.sleep(moment.seconds)  # the moment itself; nothing is waited for here

    async def wait_for_mail(self, *, accepted: bool) -> None:
        """Wait until a mail is being handed over, or was accepted and nobody recorded it yet."""
        is_there = self._is_mail_unrecorded if accepted else self.list_open_attempts
        if accepted:
            await self._tell_sink(SLOWER_MAIL)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await is_there():  # noqa: ASYNC110  other processes are polled
                await asyncio.sleep(POLL_SECONDS)
        if accepted:
            await self._tell_sink(SLOW_MAIL)  # that mail's answer is late already

    async def _tell_sink(self, wishes: Sequence[Mapping[str, object]]) -> None:
        await self.access.ask(f"{self.access.sink}/behaviour", "POST", json=wishes)

    async def _is_mail_unrecorded(self) -> bool:
        sent = await self._fetch(SENT)  # first: a mail may be recorded between the two questions
        mails = await self.access.ask(f"{self.access.sink}/count")
        return bool(mails["total"] > len(sent) and await self.list_open_attempts())

    async def kill(self, name: str) -> None:
        """Kill a process with -9 and wait until it was started again and is ready."""
        process = self.runtime.process(name)
        restarts = process.restarts
        self.say(f"kill -9 {process.name}, pid {process.pid}")
        process.kill(signal.SIGKILL)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while process.restarts == restarts:  # noqa: ASYNC110  a thread of the runtime counts
                await asyncio.sleep(POLL_SECONDS)
        await asyncio.to_thread(self.runtime.wait_ready, process.name)
        self.say(f"{process.name} is ready again, pid {process.pid}")

    async def freeze(self, names: Sequence[str], seconds: float) -> None:
        """Stop processes in whatever they are doing, and wake them."""
        self.say(f"freezing {', '.join(names)}")
        for name in names:
            self.runtime.kill(name, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            for name in names:
                self.runtime.kill(name, signal.SIGCONT)
        self.say(f"woke {', '.join(names)}")

    async def list_open_attempts(self) -> set[UUID]:
        """Return the hand-overs whose end nobody has recorded yet."""
        return {row["id"] for row in await self._fetch(OPEN_ATTEMPTS)}

    async def list_ends(self, attempts: set[UUID]) -> list[str]:
        """Return how hand-overs ended."""
        return [row["state"] for row in await self._fetch(ENDED_ATTEMPTS, list(attempts))]

    async def _fetch(self, sql: str, *values: object) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.access.dsn("notifications"))
        try:
            return list(await connection.fetch(sql, *values))
        finally:
            await connection.close()


def _avoiding(state: State, names: Collection[str]) -> State:
    urls = dict(state.urls)
    for service in SERVICES:
        if instance(service, 0) in names:
            for ops in (False, True):
                first, second = (port_name(service, replica, ops=ops) for replica in (0, 1))
                urls[first], urls[second] = urls[second], urls[first]
    return replace(state, urls=urls)


def draw_moments(name: str, days: Sequence[date], count: int) -> list[Moment]:
    """Draw a moment of the bulk and `count` of different days, in order, by the seed and a name."""
    chance = random.Random(f"{SEED} {name}")  # noqa: S311  a test's choice
    chosen = sorted(chance.sample(days, count))
    live = [Moment(day.isoformat(), chance.uniform(0.0, 0.4)) for day in chosen]
    return [Moment(BULK, chance.uniform(0.0, 1.2)), *live]
