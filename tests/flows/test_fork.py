"""A database that lost commits or came from elsewhere publishes nothing, and says so."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg
import pytest

from rapport.database import connect
from rapport.messaging import tick
from rapport.messaging.lease import Lease, LeaseLostError
from rapport.messaging.relay import Relay
from rapport.testing.inprocess import until
from tests.flows import lab
from tests.flows.lab import CONTACTS
from tests.flows.leader import Leader
from tests.flows.toys import PARTITIONS

if TYPE_CHECKING:
    from rapport_local.infra import Infra
    from tests.flows.toys import Toys


async def copy_database(toys: Toys, infra: Infra, source: str, name: str) -> str:
    """Copy a service's database, as a backup would."""
    full = f"{toys.prefix}_{name}"
    admin = await asyncpg.connect(infra.dsn("postgres"))
    await admin.execute(f'create database "{full}" template "{toys.prefix}_{source}"')
    await admin.close()
    return infra.dsn(full)


async def forked(relay: Relay, leader: Leader) -> str:
    """Wait until the relay says that it stopped, and why."""
    await leader.ended()
    assert relay.fork is not None
    return relay.fork


@pytest.mark.parametrize("written_since", [0, 15])
async def test_a_restored_database_publishes_nothing(
    toys: Toys, infra: Infra, leaders: list[Leader], written_since: int
) -> None:
    """Kafka has 20 events, the copy knows 10; with 15 others since, a number means two events."""
    dsn, contact = await toys.database("contacts"), lab.contact_in(1)
    async with lab.opened(dsn) as database:
        await lab.record(database, contact, map(str, range(10)))
    leader = await Leader(dsn, infra.kafka).start()
    leaders.append(leader)
    await leader.sent(10)
    await leader.stop()
    copy = await copy_database(toys, infra, "contacts", "old")
    async with lab.opened(dsn) as database:
        await lab.record(database, contact, map(str, range(10, 20)))
    leader = await Leader(dsn, infra.kafka).start()
    leaders.append(leader)
    await leader.sent(20)
    await leader.stop()
    before = await lab.count_records(infra, CONTACTS)
    async with lab.opened(copy) as database:
        if written_since:
            await lab.record(database, contact, map(str, range(100, 100 + written_since)))
            await lab.number_outbox(copy, CONTACTS)
    leader = await Leader(copy, infra.kafka).start()
    leaders.append(leader)
    reason = await forked(leader.relay, leader)
    assert "rapport stream fork" in reason
    assert await lab.count_records(infra, CONTACTS) == before


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("system_identifier = '1'", "cluster"),
        ("snapshot = '9000000000:9000000000:'", "xmax"),
        ("partitions = 12", "partitions"),
    ],
)
async def test_another_clusters_tick_is_refused(
    toys: Toys, infra: Infra, leaders: list[Leader], change: str, reason: str
) -> None:
    """A dump restored elsewhere would publish nothing, silently: it says so instead."""
    dsn, contact = await toys.database("contacts"), lab.contact_in(1)
    async with lab.opened(dsn) as database:
        await lab.record(database, contact, ["1"])
        await lab.number_outbox(dsn, CONTACTS)
        await database.pool.execute(f"update rapport.tick set {change}")  # noqa: S608  literals
        await lab.record(database, contact, ["2"])
    leader = await Leader(dsn, infra.kafka).start()
    leaders.append(leader)
    assert reason in await forked(leader.relay, leader)
    assert await lab.count_records(infra, CONTACTS) == 0


async def test_a_tick_of_an_old_token_is_refused(toys: Toys) -> None:
    """The check locks the lease: a take-over waits for a tick that is being cut."""
    dsn = await toys.database("contacts")
    connections = [await connect(dsn) for _ in range(2)]
    leases = [Lease(None, 0.1) for _ in range(2)]
    await leases[0].acquire(connections[0])
    last = await tick.find_last(connections[0], PARTITIONS)
    transaction = connections[0].transaction()
    await transaction.start()
    await leases[0].check(connections[0])
    taking = asyncio.create_task(leases[1].acquire(connections[1]))
    waiting = (
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = $1"
    )

    async def blocked() -> bool:
        return bool(await connections[0].fetchval(waiting, f"{toys.prefix}_contacts"))

    await until(blocked, "the take-over waits")
    await transaction.commit()
    await taking
    async with lab.opened(dsn) as database:
        await lab.record(database, uuid4(), ["1"])
    with pytest.raises(LeaseLostError):
        await tick.cut(connections[0], leases[0], last)
    assert await tick.cut(connections[1], leases[1], last) is not None
    for connection in connections:
        await connection.close()
