"""Parking across streams, redrive with its dry run, discard."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from rapport.contracts.contacts import PurchaseRecorded
from rapport.contracts.loyalty import PointsAwarded
from rapport.messaging.handler import touches
from tests.flows import lab
from tests.flows.faults import (
    Fault,
    audits,
    award_both,
    find_referrers,
    ops_of,
    parked_contacts,
    tables,
    thank,
    until_parked,
)
from tests.flows.lab import CONTACTS, LOYALTY
from tests.flows.toys import Toys, enter, fetch, note, points

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg
    import httpx

KEPT = ("entry", "book", "rapport.parked_event", "rapport.key", "rapport.outbox", "rapport.audit")


async def redrive(
    ops: httpx.AsyncClient, contact: UUID, *, dry_run: bool = False
) -> httpx.Response:
    """Ask for a redrive."""
    wanted = {"contact_id": str(contact), "dry_run": dry_run, "actor": "jana"}
    return await ops.post("/ops/parked/redrive", json=wanted)


def assert_seven_parked(parked: Sequence[asyncpg.Record], a: UUID, b: UUID) -> None:
    """The culprit first, then A's and B's awards that it caused, then whatever came later."""
    assert len(parked) == 7
    by_reason = [(row["reason"], row["stream"], set(row["contacts"])) for row in parked]
    assert by_reason[0] == ("failed", CONTACTS, {a})
    assert ("contact_parked", LOYALTY, {a}) in by_reason[1:3]
    assert ("cause_parked", LOYALTY, {b}) in by_reason[1:3]
    assert {reason for reason, _, _ in by_reason[3:]} == {"contact_parked"}
    assert parked[0]["attempts"] == 3
    assert "Poison" in parked[0]["error"]


def assert_shown(shown: dict[str, Any], a: UUID, b: UUID) -> None:
    """The dry run names the closure, the rows of both and the messages about three purchases."""
    assert set(shown["contacts"]) == {str(a), str(b)}
    changed = {change["table"]: change for change in shown["changes"]}
    assert len(changed["entry"]["after"]) == 7
    assert changed["entry"]["before"] == []
    assert {row["contact_id"]: row["points"] for row in changed["book"]["after"]} == {
        str(a): 5 + 7 + 5 + 7,
        str(b): 5 + 11 + 11,
    }
    assert sorted(e["key"] for e in shown["published"]) == sorted([str(a), str(a), str(b)])


async def test_one_contact_parks_and_is_redriven(toys: Toys) -> None:
    """A's later events wait from both streams, B's with a parked cause too; C's flow."""
    fault = Fault()
    till = await toys.start("contacts", {})
    await toys.start("loyalty", {PurchaseRecorded: award_both})
    desk = await toys.start(
        "notifications",
        {PurchaseRecorded: fault.before(thank), PointsAwarded: note},
        declared_tables=("entry", "book"),
    )
    database = till.running.database
    a, b, c = uuid4(), uuid4(), uuid4()
    fault.contacts = {a}
    await lab.record(database, a, [f"a1:{b}"], 5)
    await until_parked(desk, 3)
    await lab.record(database, a, ["a2"], 7)
    await lab.record(database, b, ["b1"], 11)
    await lab.record(database, c, ["c1"], 13)
    parked = await until_parked(desk, 7)
    await lab.entered(desk, 2)

    assert_seven_parked(parked, a, b)
    assert await parked_contacts(desk) == {a, b}
    assert len(await lab.orders_of(desk, c)) == 2

    async with ops_of(desk) as ops:
        failing = await redrive(ops, a, dry_run=True)
        assert failing.status_code == 409
        before = await tables(desk, KEPT)
        assert (await redrive(ops, b)).status_code == 409
        assert await audits(desk) == [("jana", "redrive", str(b), "failed")]
        fault.mend()
        after = await tables(desk, KEPT)
        assert {k: v for k, v in after.items() if k != "rapport.audit"} == {
            k: v for k, v in before.items() if k != "rapport.audit"
        }

        shown = (await redrive(ops, b, dry_run=True)).json()
        assert [e["event_id"] for e in shown["events"]] == [str(p["event_id"]) for p in parked]
        assert_shown(shown, a, b)
        assert await tables(desk, KEPT) == after

        done = (await redrive(ops, b)).json()
        assert done["events"] == shown["events"]
        assert done["published"] == shown["published"]
        assert (await redrive(ops, a)).status_code == 404

    rows = await fetch(
        desk, "select event_id from entry where contact_id = any($1) order by id", [a, b]
    )
    assert len(rows) == 7
    assert {row["event_id"] for row in rows} == {row["event_id"] for row in parked}
    assert [n for n in await lab.orders_of(desk, a) if n.startswith("a")] == [f"a1:{b}", "a2"]
    published = await fetch(desk, "select event_id from rapport.outbox where key = any($1)", [a, b])
    assert {str(row["event_id"]) for row in published} == {e["id"] for e in done["published"]}
    assert await parked_contacts(desk) == set()
    assert await audits(desk) == [
        ("jana", "redrive", str(b), "failed"),
        ("jana", "redrive", str(b), "applied"),
    ]
    await lab.record(database, a, ["a3"], 17)
    await lab.entered(desk, 2 + 7 + 2)
    assert await points(desk, a) == 2 * (5 + 7 + 17)
    await lab.assert_nothing_parked(desk)


async def test_a_long_row_is_redriven_in_order(toys: Toys) -> None:
    """1,200 events of one contact take three transactions; live ones queue up behind."""
    fault = Fault()
    till = await toys.start("contacts", {})
    desk = await toys.start("loyalty", {PurchaseRecorded: fault.before(enter)})
    contact = uuid4()
    fault.contacts = {contact}
    await lab.record(till.running.database, contact, [f"{n}" for n in range(1200)])
    await until_parked(desk, 1200)
    fault.mend()
    async with ops_of(desk) as ops:
        redriving = asyncio.create_task(redrive(ops, contact))
        for n in range(1200, 1300):
            await lab.record(till.running.database, contact, [f"{n}"])
        answer = await redriving
        assert answer.status_code == 200, answer.text
    await lab.entered(desk, 1300)
    assert await lab.orders_of(desk, contact) == [f"{n}" for n in range(1300)]
    assert await points(desk, contact) == 1300
    await lab.assert_nothing_parked(desk)
    assert await parked_contacts(desk) == set()


async def test_a_very_long_row_is_still_looked_at(toys: Toys) -> None:
    """20,000 parked events of one contact, each with a cause, are a matter of seconds."""
    till = await toys.start("contacts", {})
    contact = uuid4()
    await till.running.database.add_keys([contact])
    await fetch(
        till,
        """
        insert into rapport.parked_event (stream, partition, epoch, number, kafka_offset, event_id,
            type, contacts, cause_id, headers, reason, attempts, first_failed_at)
        select 'loyalty.events.v1', 0, 1, n, n, gen_random_uuid(), 'rapport.loyalty.other.v1',
            array[$1::uuid], gen_random_uuid(), '[]', 'contact_parked', 0, now()
        from generate_series(1, 20000) n
        """,
        contact,
    )
    started = time.monotonic()
    wanted = {"contact_id": str(contact), "reason": "a test", "actor": "jana"}
    async with ops_of(till) as ops:
        answer = await ops.post("/ops/parked/discard", json=wanted)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["events"]) == 20_000
    assert time.monotonic() - started < 15


async def test_further_contacts_are_found_by_a_redrive(toys: Toys) -> None:
    """A handler that touches further contacts publishes for them from a redrive as well."""
    fault = Fault()
    till = await toys.start("contacts", {})
    faulty = touches(find_referrers)(fault.before(award_both))
    desk = await toys.start("loyalty", {PurchaseRecorded: faulty})
    contact, referrer = uuid4(), uuid4()
    fault.contacts = {contact}
    await lab.record(till.running.database, contact, [f"1:{referrer}"], 9)
    await until_parked(desk, 1)
    fault.mend()
    async with ops_of(desk) as ops:
        answer = await redrive(ops, contact)
        assert answer.status_code == 200, answer.text
    keys = await fetch(desk, "select key from rapport.outbox")
    assert {row["key"] for row in keys} == {contact, referrer}


async def test_discard_is_audited(toys: Toys) -> None:
    """Discarded events are gone for ever; the contact's next event flows."""
    fault = Fault()
    till = await toys.start("contacts", {})
    desk = await toys.start("loyalty", {PurchaseRecorded: fault.before(enter)})
    contact = uuid4()
    fault.contacts = {contact}
    await lab.record(till.running.database, contact, ["1", "2"], 3)
    parked = await until_parked(desk, 2)
    wanted = {"contact_id": str(contact), "reason": "sent by mistake", "actor": "jana"}
    async with ops_of(desk) as ops:
        assert (await ops.post("/ops/parked/discard", json=wanted)).status_code == 200
        assert (await ops.post("/ops/parked/discard", json=wanted)).status_code == 404
    (audit,) = await fetch(desk, "select * from rapport.audit")
    assert (audit["action"], audit["outcome"]) == ("discard", "discarded")
    assert audit["details"]["reason"] == "sent by mistake"
    assert [e["event_id"] for e in audit["details"]["events"]] == [
        str(row["event_id"]) for row in parked
    ]
    fault.mend()
    await lab.record(till.running.database, contact, ["3"], 5)
    await lab.entered(desk, 1)
    assert await lab.orders_of(desk, contact) == ["3"]
    assert await parked_contacts(desk) == set()
