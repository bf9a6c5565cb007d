"""Records on an internal stream that are not ours, and ours with bodies that cannot be read."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from aiokafka import AIOKafkaProducer
from aiokafka.record.util import calc_crc32c

from rapport.contracts.contacts import PurchaseRecorded
from rapport.messaging.numbering import Numbered
from rapport.testing.inprocess import until
from tests.flows import lab
from tests.flows.faults import Fault, Poison, ops_of, parked_of, rejected_of, until_parked
from tests.flows.lab import CONTACTS
from tests.flows.toys import TIME, Toys, enter

if TYPE_CHECKING:
    from rapport.messaging.transaction import Tx
    from rapport_local.infra import Infra

Headers = dict[str, bytes]

OURS: Headers = {
    "ce_specversion": b"1.0",
    "ce_id": str(uuid4()).encode(),
    "ce_type": PurchaseRecorded.type.encode(),
    "ce_source": b"/rapport/contacts",
    "ce_time": TIME.isoformat().encode(),
    "ce_subject": str(uuid4()).encode(),
    "ce_sequence": b"00000000000000000001",
    "ce_epoch": b"1",
}
FOREIGN: dict[str, tuple[Headers, bytes | None, str]] = {
    "undecodable bytes": ({}, b"\xff\xfe\x00", "ce_sequence"),
    "wrong shape": ({"content-type": b"application/json"}, b'[1, {"a": null}]', "ce_sequence"),
    "a header that is not UTF-8": (OURS | {"x-sender": b"caf\xe9"}, b"{}", "x-sender"),
    "an id that is none": (OURS | {"ce_id": b"seven"}, b"{}", "ce_id"),
    "a null body": ({}, None, "ce_sequence"),
    "an unknown type": (OURS | {"ce_type": b"nonsense"}, b"{}", "ce_type"),
    "1,000,000 bytes": ({}, b"x" * 1_000_000, "ce_sequence"),
    "another owner": (OURS | {"ce_source": b"/rapport/loyalty"}, b"{}", "ce_source"),
    "a time without offset": (OURS | {"ce_time": b"2026-01-01T00:00:00"}, b"{}", "ce_time"),
    "a NUL in a header's name": ({"a\0b": b"x"}, b"{}", "ce_sequence"),
    "not UTF-8 under a NUL": ({"a\0b": b"\xff"}, b"{}", "a"),
}


async def put(
    infra: Infra, topic: str, partition: int, headers: Headers, body: bytes | None
) -> None:
    """Write a record as some other producer would."""
    producer = AIOKafkaProducer(bootstrap_servers=infra.kafka, max_request_size=1_048_588)
    await producer.start()
    try:
        await producer.send_and_wait(
            topic, body, key=b"a", partition=partition, headers=list(headers.items())
        )
    finally:
        await producer.stop()


async def test_foreign_records_are_rejected(toys: Toys, infra: Infra) -> None:
    """Each is kept with a reason that names the field; our own events between them flow."""
    till = await toys.start("contacts", {})
    desk = await toys.start("loyalty", {PurchaseRecorded: enter})
    contact = lab.contact_in(0)
    for n, (headers, body, _) in enumerate(FOREIGN.values()):
        await put(infra, CONTACTS, 0, headers, body)
        await lab.record(till.running.database, contact, [f"{n}"])
        await lab.entered(desk, n + 1)
    assert await lab.orders_of(desk, contact) == [f"{n}" for n in range(len(FOREIGN))]
    rejected = await rejected_of(desk)
    assert len(rejected) == len(FOREIGN)
    for row, (name, (_, body, field)) in zip(rejected, FOREIGN.items(), strict=True):
        assert row["field"].startswith(field), name
        assert row["reason"].startswith(row["field"]), name
        assert row["value"] == body, name
    assert not await parked_of(desk)
    async with ops_of(desk) as ops:
        listed = (await ops.get("/ops/rejected")).json()
        assert listed["records"] == len(FOREIGN)
        shown = (await ops.get(f"/ops/rejected/{rejected[2]['id']}")).json()
        assert ["x-sender", "caf\\xe9"] in shown["headers"]
        refused = await ops.post(f"/ops/rejected/{rejected[2]['id']}/resubmit")
        assert refused.status_code == 409

    # They come again with the same offsets when the position goes back: nothing new is written.
    await desk.stop()
    again = await toys.start("loyalty", {PurchaseRecorded: enter})
    await lab.record(till.running.database, contact, ["last"])
    await lab.entered(again, len(FOREIGN) + 1)
    assert len(await rejected_of(again)) == len(FOREIGN)


async def put_odd_names(infra: Infra, topic: str, partition: int, count: int) -> None:
    """Write a batch whose header names are no UTF-8, as a C client can."""
    producer = AIOKafkaProducer(bootstrap_servers=infra.kafka)
    await producer.start()
    try:
        batch = producer.create_batch()
        for n in range(count):
            batch.append(key=b"a", value=b"%d" % n, timestamp=None, headers=[("NAME", b"x")])
        batch.close()
        build = batch._build

        def built() -> bytes:
            data = bytes(build()).replace(b"NAME", b"\xff\xfe\xfd\xfc")
            checksum: int = calc_crc32c(data[21:])
            return data[:17] + checksum.to_bytes(4, "big") + data[21:]

        batch._build = built
        await (await producer.send_batch(batch, topic, partition=partition))
    finally:
        await producer.stop()


async def test_header_names_that_are_not_utf8(toys: Toys, infra: Infra) -> None:
    """The client library cannot read them; the records are rejected all the same."""
    till = await toys.start("contacts", {})
    desk = await toys.start("loyalty", {PurchaseRecorded: enter})
    contact = lab.contact_in(0)
    await lab.record(till.running.database, contact, ["1"])
    await put_odd_names(infra, CONTACTS, 0, 3)
    await lab.record(till.running.database, contact, ["2", "3"])
    await lab.entered(desk, 3)
    assert await lab.orders_of(desk, contact) == ["1", "2", "3"]
    rejected = await rejected_of(desk)
    assert [row["value"] for row in rejected] == [b"0", b"1", b"2"]
    assert rejected[0]["headers"][0][0] == "\\xff\\xfe\\xfd\\xfc"
    assert not await parked_of(desk)


async def test_our_records_with_bad_bodies_are_parked(toys: Toys, infra: Infra) -> None:
    """A number of ours is never rejected: its contact is known, so it waits under its contact."""
    dsn = await toys.database("contacts")
    bodies = [None, b"", b"\xff\xfe", b"[]", b"{}", b'{"contact_id": 7}', b"[" * 100_000]
    bad = [lab.contact_in(0) for _ in bodies]
    good = lab.contact_in(0)
    async with lab.opened(dsn) as database:
        for contact in bad:
            await lab.record(database, contact, ["bad", "behind"])
            await lab.record(database, good, [f"{contact}"])
    records = await lab.number_outbox(dsn, CONTACTS)
    for body, contact in zip(bodies, bad, strict=True):
        first = next(i for i, r in enumerate(records) if r.key == str(contact).encode())
        records[first] = Numbered(*records[first][:3], body, records[first].headers)  # type: ignore[arg-type]
    desk = await toys.start("loyalty", {PurchaseRecorded: enter})
    # Five at once and a few later: the sixth within a minute would stop the partition.
    upto = 3 * 4
    await lab.send(infra, CONTACTS, records[:upto])
    await until_parked(desk, 2 * 4)
    await desk.running.database.pool.execute(
        "update rapport.parked_event set parked_at = parked_at - interval '1 hour'"
    )
    await lab.send(infra, CONTACTS, records[upto:])
    parked = await until_parked(desk, 2 * len(bodies))
    await lab.entered(desk, len(bodies))
    assert [row["contacts"] for row in parked] == [[c] for c in bad for _ in range(2)]
    assert [row["reason"] for row in parked] == ["failed", "contact_parked"] * len(bodies)
    assert [row["value"] for row in parked[::2]] == bodies
    assert all(
        "DecodingError" in row["error"] or "Recursion" in row["error"] for row in parked[::2]
    )
    assert not await rejected_of(desk)


async def test_errors_that_postgres_cannot_hold(toys: Toys) -> None:
    """An error's text with NUL and lone surrogates does not keep its event from being parked."""

    async def act(_tx: Tx) -> None:
        raise Poison("a\0b \udc80 c")

    till = await toys.start("contacts", {})
    fault = Fault(act=act)
    desk = await toys.start("loyalty", {PurchaseRecorded: fault.before(enter)})
    contact = uuid4()
    fault.contacts = {contact}
    await lab.record(till.running.database, contact, ["1"])
    (row,) = await until_parked(desk, 1)
    assert "Poison" in row["error"]


async def test_types_that_nobody_handles_are_skipped(toys: Toys, infra: Infra) -> None:
    """A numbered record of an unknown type moves the position and nothing else."""
    dsn = await toys.database("contacts")
    contact = lab.contact_in(0)
    async with lab.opened(dsn) as database:
        await lab.record(database, contact, ["1", "2"])
    first, second = await lab.number_outbox(dsn, CONTACTS)
    headers = [
        (n, b"rapport.contacts.of-tomorrow.v9" if n == "ce_type" else v) for n, v in first.headers
    ]
    desk = await toys.start("loyalty", {PurchaseRecorded: enter})
    await lab.send(infra, CONTACTS, [first._replace(headers=headers, value=b"\xff"), second])
    await lab.entered(desk, 1)
    assert await lab.orders_of(desk, contact) == ["2"]

    async def moved() -> bool:
        rows = await desk.running.database.pool.fetch(
            "select number from rapport.position where stream = $1 and partition = 0", CONTACTS
        )
        return bool(rows[0]["number"] == 2)

    await until(moved, "position 2")
    await lab.assert_nothing_parked(desk)
