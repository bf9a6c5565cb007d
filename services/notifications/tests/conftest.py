"""Notifications on a real Postgres and against the real mail sink."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from notifications.handlers import HANDLERS
from notifications.settings import Settings
from rapport import database
from rapport.clock import Clock
from rapport.contracts.base import Event
from rapport.contracts.contacts import (
    AnniversaryDue,
    ConsentChanged,
    ContactRegistered,
    PurchaseLine,
    PurchaseRecorded,
    RememberedPurchase,
)
from rapport.database import Database
from rapport.messaging.delivery import Delivery
from rapport.messaging.ids import derived_id
from rapport.messaging.transaction import ADD_KEYS, Tx
from rapport.migrate import migrate
from rapport.testing import deliver
from rapport_local.folder import CopyFolder
from rapport_local.ports import choose
from rapport_local.postgres import Postgres
from rapport_local.settings import LocalSettings

NOW = datetime(1998, 1, 15, 11, tzinfo=UTC)
NAME = "Žofie Testová"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever asks for a database is a service test."""
    for item in items:
        if "server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.service)


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    """A Postgres of its own, without Kafka."""
    folder = CopyFolder(LocalSettings().folder, f"test-{secrets.token_hex(4)}")
    folder.prepare(512)
    postgres = Postgres(folder, choose(1)[0])
    try:
        postgres.start()
        yield postgres
    finally:
        postgres.process.stop()
        folder.remove()


@pytest.fixture(scope="session")
async def template(server: Postgres) -> str:
    """A migrated database with a stopped clock, which nothing ever changes."""
    dsn = server.create_database("notifications")
    await migrate(dsn, "notifications")
    connection = await asyncpg.connect(dsn)
    await connection.execute("insert into rapport.clock (now, fire_until) values ($1, $1)", NOW)
    await connection.close()
    return dsn


@pytest.fixture
async def connection(template: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection within a transaction that is rolled back."""
    opened = await database.connect(template)
    transaction = opened.transaction()
    await transaction.start()
    yield opened
    await transaction.rollback()
    await opened.close()


@pytest.fixture
def dsn(template: str, server: Postgres) -> Iterator[str]:
    """A copy of the template for tests that commit."""
    assert template
    name = f"notifications_{secrets.token_hex(4)}"
    server.query(f'create database "{name}" template notifications')
    yield server.dsn(name)
    server.drop_database(name)


@pytest.fixture
async def committed(dsn: str) -> AsyncIterator[Database]:
    """A database of the test's own, with the clock at NOW."""
    opened = await Database.open(dsn, Clock(simulated=True), size=4)
    yield opened
    await opened.close()


class Story:
    """Events of one test, and the way in which a runner brings them to the handlers."""

    now = NOW
    name = NAME

    @staticmethod
    def contact(number: int) -> UUID:
        """Return the id of the test's n-th contact."""
        return derived_id("contact", "test", number)

    def address(self, number: int) -> str:
        """Return the n-th contact's address."""
        return f"customer-{number}@shop.example"

    def registered(
        self, number: int, email: str | None = "", *, version: int = 1, language: str | None = None
    ) -> Delivery[ContactRegistered]:
        """Return a registration; with the contact's usual address unless one is given."""
        event = ContactRegistered(
            contact_id=self.contact(number),
            given_name=NAME,
            email=self.address(number) if email == "" else email,
            language=language,
            registered_at=NOW,
            version=version,
        )
        return deliver(event)

    def consent(
        self, number: int, *, granted: bool = True, at: datetime = NOW
    ) -> Delivery[ConsentChanged]:
        """Return a decision about marketing by e-mail."""
        event = ConsentChanged(
            contact_id=self.contact(number),
            purpose="marketing",
            channel="email",
            granted=granted,
            wording_version="1",
            recipient="Rapport",
            decided_at=at,
        )
        return deliver(event, time=at)

    def purchase(
        self, number: int, order: str, *net_minor: int, age: timedelta = timedelta(hours=1)
    ) -> Delivery[PurchaseRecorded]:
        """Return a purchase of one line per amount; of 12.34 USD unless amounts are given."""
        lines = tuple(
            PurchaseLine(line=str(n), sku="cd", quantity=1, net_minor=net)
            for n, net in enumerate(net_minor or (1234,), 1)
        )
        event = PurchaseRecorded(
            contact_id=self.contact(number),
            purchase_id=derived_id("purchase", "test", order),
            source="test",
            order=order,
            occurred_at=NOW - age,
            currency="USD",
            lines=lines,
        )
        return deliver(event)

    def anniversary(
        self, number: int, order: str, *, first_kept: bool = True, year: int = 1998
    ) -> Delivery[AnniversaryDue]:
        """Return the anniversary of a purchase made on 15 January 1997."""
        remembered = RememberedPurchase(
            purchase_id=derived_id("purchase", "test", order),
            purchased_on=date(1997, 1, 15),
            first_kept=first_kept,
        )
        event = AnniversaryDue(
            contact_id=self.contact(number),
            local_date=date(year, 1, 15),
            purchases=(remembered,),
        )
        return deliver(event)

    async def handle(self, tx: Tx, *deliveries: Delivery[Any]) -> None:
        """Give runs of one type to their handler, in order, with their keys locked."""
        ids = {delivery.contact_id for delivery in deliveries}
        ids |= {getattr(d.event, "loser_id", d.contact_id) for d in deliveries}
        await tx.execute(ADD_KEYS, list(ids))
        await tx.lock_keys(ids)
        batch: list[Delivery[Event]] = []
        for delivery in deliveries:
            if batch and type(batch[0].event) is not type(delivery.event):
                await HANDLERS[type(batch[0].event)](batch, tx)
                batch = []
            batch.append(delivery)
        if batch:
            await HANDLERS[type(batch[0].event)](batch, tx)

    async def commit(self, into: Database, *deliveries: Delivery[Any]) -> None:
        """Handle events in a transaction of their own."""
        await into.transact(lambda tx: self.handle(tx, *deliveries))

    async def messages(self, at: Tx | Database) -> list[dict[str, Any]]:
        """Return all message rows, by id."""
        sql = "select * from message order by id"
        if isinstance(at, Tx):
            return [dict(row) for row in await at.fetch(sql)]
        async with at.read() as tx:
            return [dict(row) for row in await tx.fetch(sql)]

    async def outbox(self, at: Database) -> list[str]:
        """Return the short types of committed events, in their order."""
        async with at.read() as tx:
            rows = await tx.fetch("select type from rapport.outbox order by number")
        return [row["type"].split(".")[2] for row in rows]


@pytest.fixture(scope="session")
def story() -> Story:
    """Make events and bring them to handlers."""
    return Story()


@pytest.fixture
async def tx(connection: asyncpg.Connection) -> Tx:
    """A transaction at NOW that is rolled back."""
    return Tx(connection, NOW)


@dataclass(frozen=True)
class Sink:
    """A running mail sink."""

    smtp_port: int
    http_port: int
    directory: Path

    @property
    def url(self) -> str:
        """Its HTTP address."""
        return f"http://127.0.0.1:{self.http_port}"

    def start(self) -> subprocess.Popen[bytes]:
        """Run it, and wait until it is ready."""
        ports = ["--smtp-port", str(self.smtp_port), "--http-port", str(self.http_port)]
        command = [sys.executable, "-m", "notifications.sink", *ports]
        process = subprocess.Popen([*command, "--directory", str(self.directory)])
        end = time.monotonic() + 90
        while time.monotonic() < end and process.poll() is None:
            try:
                if httpx.get(f"{self.url}/readyz").is_success:
                    return process
            except httpx.TransportError:
                time.sleep(0.05)  # between two looks; the deadline is above
        process.kill()
        raise AssertionError("the sink did not become ready")

    def behave(self, *wishes: dict[str, Any]) -> None:
        """Tell it how to treat clients; without wishes it behaves."""
        httpx.post(f"{self.url}/behaviour", json=list(wishes)).raise_for_status()

    def to(self, address: str) -> list[dict[str, Any]]:
        """Return the mails for an address, the newest first."""
        answer = httpx.get(f"{self.url}/messages", params={"to": address})
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    def by_message_id(self, message_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return the mails with one of these Message-IDs."""
        answer = httpx.get(f"{self.url}/messages", params={"message_id": list(message_ids)})
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    def content(self, mail: dict[str, Any]) -> str:
        """Return a mail as it was received."""
        return httpx.get(f"{self.url}/messages/{mail['id']}").text

    def count(self) -> dict[str, int]:
        """Return how many mails there are, and how many different ones."""
        counted: dict[str, int] = httpx.get(f"{self.url}/count").json()
        return counted


@pytest.fixture(scope="session")
def sink_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sink]:
    """One sink for all tests."""
    smtp_port, http_port = choose(2)
    made = Sink(smtp_port, http_port, tmp_path_factory.mktemp("sink") / "mails")
    process = made.start()
    yield made
    process.terminate()
    process.wait(10)


@pytest.fixture
def sink(sink_process: Sink) -> Iterator[Sink]:
    """The sink, empty and well behaved."""
    sink_process.behave()
    httpx.delete(f"{sink_process.url}/messages").raise_for_status()
    yield sink_process
    sink_process.behave()


@pytest.fixture
def settings(sink: Sink, dsn: str) -> Settings:
    """Settings with the sink as mail server and provider, and a lease longer than a test."""
    return Settings(
        environment="development",
        database_dsn=dsn,
        kafka_bootstrap="unused.example:9092",
        port=0,
        ops_port=0,
        clock="simulated",
        lease_seconds=120.0,
        smtp_port=sink.smtp_port,
        sink_url=sink.url,
    )
