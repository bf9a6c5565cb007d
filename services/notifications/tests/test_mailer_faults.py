"""Mailers that are killed and frozen at any moment: every mail arrives once."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from notifications.settings import Settings
from notifications.store import totals
from rapport.database import Database
from services.notifications.tests.sink_client import Sink
from services.notifications.tests.story import Story

MAILS = 300
LEASE_SECONDS = 3
DEADLINE_SECONDS = 120
SCRIPT = Path(__file__).parent / "mailer_process.py"


class Fleet:
    """Mailer processes of one test."""

    def __init__(self, settings: Settings) -> None:
        self.environment = {
            "RAPPORT_ENVIRONMENT": "development",
            "RAPPORT_DATABASE_DSN": settings.database_dsn,
            "RAPPORT_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
            "RAPPORT_PORT": "0",
            "RAPPORT_OPS_PORT": "0",
            "RAPPORT_CLOCK": "simulated",
            "RAPPORT_LEASE_SECONDS": str(LEASE_SECONDS),
            "RAPPORT_MAIL_BATCH_SIZE": "20",
            "RAPPORT_SMTP_PORT": str(settings.smtp_port),
            "RAPPORT_SINK_URL": str(settings.sink_url),
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        """Start one more."""
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT)], env=self.environment, stdout=subprocess.DEVNULL
        )
        self.processes.append(process)
        return process

    def end(self) -> None:
        """End all that still run."""
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def fleet(settings: Settings) -> Iterator[Fleet]:
    """Start mailers; they end with the test."""
    made = Fleet(settings)
    yield made
    made.end()


async def sent(database: Database) -> int:
    async with database.read() as tx:
        count: int = await tx.fetchval("select count(*) from message where state = 'sent'")
    return count


async def wait_for(database: Database, count: int) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await sent(database) < count:  # noqa: ASYNC110  the database tells no event
            await asyncio.sleep(0.02)


async def check(database: Database, story: Story, sink: Sink) -> None:
    assert sink.count() == {"total": MAILS, "distinct": MAILS}
    assert (await story.outbox(database)).count("message-sent") == MAILS
    async with database.read() as tx:
        assert await totals.count_pending(tx) == {"mails_due": 0, "mails_open": 0}


async def order_mails(database: Database, story: Story) -> None:
    await story.commit(database, *(story.registered(n) for n in range(MAILS)))
    await story.commit(database, *(story.purchase(n, f"O{n}") for n in range(MAILS)))


async def test_a_mailer_killed_again_and_again_sends_each_mail_once(
    committed: Database, fleet: Fleet, story: Story, sink: Sink
) -> None:
    await order_mails(committed, story)
    chance = random.Random(7)  # noqa: S311  a moment to kill at
    for step in range(1, 5):
        process = fleet.start()
        await wait_for(committed, min(MAILS, step * 45))
        await asyncio.sleep(chance.random() / 20)  # a random moment, nothing is waited for
        process.kill()
        process.wait()
    fleet.start()
    await wait_for(committed, MAILS)
    await check(committed, story, sink)


async def test_a_mailer_frozen_beyond_its_lease_and_woken_sends_nothing_twice(
    committed: Database, fleet: Fleet, story: Story, sink: Sink
) -> None:
    await order_mails(committed, story)
    frozen = fleet.start()
    await wait_for(committed, 30)
    frozen.send_signal(signal.SIGSTOP)
    fleet.start()
    await wait_for(committed, MAILS)
    frozen.send_signal(signal.SIGCONT)
    await story.commit(committed, story.registered(9999), story.purchase(9999, "last"))
    await wait_for(committed, MAILS + 1)
    assert sink.count() == {"total": MAILS + 1, "distinct": MAILS + 1}
    assert (await story.outbox(committed)).count("message-sent") == MAILS + 1
