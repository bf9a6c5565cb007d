"""The door for other systems, with the real contacts service behind it: by Kafka and by HTTP."""

from __future__ import annotations

import dataclasses
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import asyncpg
import httpx
import orjson
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from structlog.testing import capture_logs

from contacts.api import router
from contacts.handlers import HANDLERS, anniversary, inbound
from rapport.contracts.registry import INBOUND, STREAMS
from rapport.messaging import inbound as reader
from rapport.messaging.inbox import External, Outcome
from rapport.messaging.position import init_positions
from rapport.migrate import migrate
from rapport.testing.inprocess import InProcess, until
from tests.flows import lab
from tests.flows.faults import ops_of, rejected_of, tables
from tests.flows.test_rejection import put
from tests.flows.toys import PARTITIONS, Toys, fetch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from rapport.messaging.transaction import Tx
    from rapport_local.infra import Infra

SOURCE = "till"
KEPT = ("contact", "purchase", "reference", "rapport.outbox", "rapport.inbox", "timeline")
Headers = dict[str, bytes]


def sale(order: str, source: str = SOURCE) -> dict[str, Any]:
    """Return a purchase as a structured CloudEvent."""
    return {
        "specversion": "1.0",
        "id": order,
        "source": source,
        "type": "purchase.recorded",
        "data": {
            "customer": "7",
            "order": order,
            "occurred_at": "2026-03-02T12:00:00+01:00",
            "currency": "USD",
            "lines": [{"sku": "cd", "quantity": 1, "net_minor": 1000}],
        },
    }


def binary(document: dict[str, Any]) -> tuple[Headers, bytes]:
    """Return headers and body of the Kafka binding's binary mode."""
    headers = {f"ce_{k}": v.encode() for k, v in document.items() if k != "data"}
    headers["content-type"] = b"application/json"
    return headers, orjson.dumps(document["data"])


ATTRIBUTES, GOOD = binary(sale("x"))
NO_LINES = orjson.dumps(sale("x")["data"] | {"lines": []})
BAD: dict[str, tuple[Headers, bytes | None, str]] = {
    "undecodable bytes": (ATTRIBUTES, b"\xff\xfe\x00", "data"),
    "wrong shape": (ATTRIBUTES, NO_LINES, "lines"),
    "not an object": (ATTRIBUTES, b"[1]", "data"),
    "a header that is not UTF-8": (ATTRIBUTES | {"ce_subject": b"caf\xe9"}, GOOD, "subject"),
    "a null body": (ATTRIBUTES, None, "data"),
    "an unknown type": (ATTRIBUTES | {"ce_type": b"purchase.dreamt"}, GOOD, "type"),
    "1,000,000 bytes": (ATTRIBUTES, b'{"a":"' + b"x" * 1_000_000 + b'"}', "data"),
    "no source": ({k: v for k, v in ATTRIBUTES.items() if k != "ce_source"}, GOOD, "source"),
    "a source that is not registered": (ATTRIBUTES | {"ce_source": b"stall"}, GOOD, "source"),
    "a NUL in a header's name": ({"a\0b": b"\xff"} | ATTRIBUTES, GOOD, "a"),
    "another media type": (ATTRIBUTES | {"content-type": b"text/plain"}, GOOD, "content-type"),
}


@pytest.fixture
async def contacts(toys: Toys, infra: Infra) -> InProcess:
    """The real contacts service, with one source registered."""
    return await start(toys, infra, inbound.accept)


async def start(toys: Toys, infra: Infra, accept: Any) -> InProcess:  # noqa: ANN401  a handler
    """Start contacts with this door."""
    name = f"{toys.prefix}_contacts"
    known = infra.database_exists(name)
    dsn = infra.create_database(name)
    if not known:
        await migrate(dsn, "contacts")
        connection = await asyncpg.connect(dsn)
        await init_positions(connection, [*STREAMS[1:], INBOUND], PARTITIONS)
        await connection.execute("insert into source values ($1, $1, now())", SOURCE)
        await connection.close()
    definition = await toys.define(
        "contacts",
        HANDLERS,
        settings={"database_dsn": dsn},
        timers=anniversary.timers(ZoneInfo("Europe/Prague")),
    )
    definition = dataclasses.replace(definition, router=router, accept=accept)
    process = InProcess(definition)
    await process.start()
    toys.running.append(process)
    await process.ready()
    return process


def over_http(name: str, value: bytes) -> str:
    """Encode an attribute as the HTTP binding does."""
    return value.decode() if name == "content-type" else "".join(f"%{byte:02x}" for byte in value)


@asynccontextmanager
async def api_of(process: InProcess) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of the public API."""
    transport = httpx.ASGITransport(process.running.serving.public)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        yield client


async def until_read(process: InProcess, infra: Infra) -> None:
    """Wait until everything that the topic holds was read."""
    end = await lab.count_records(infra, INBOUND)

    async def read() -> bool:
        rows = await fetch(
            process, "select sum(kafka_offset) from rapport.position where stream = $1", INBOUND
        )
        return bool(rows[0][0] == end)

    await until(read, f"{end} inbound records read", 30)


async def rows_of(process: InProcess) -> dict[str, list[str]]:
    """Return the tables that external events fill, and what was rejected."""
    return await tables(process, (*KEPT, "rapport.rejected_record"))


async def test_bad_records_are_rejected(contacts: InProcess, infra: Infra) -> None:
    """Each with a reason that names the field; every good one between them becomes a purchase."""
    for n, (headers, body, _) in enumerate(BAD.values()):
        await put(infra, INBOUND, n % PARTITIONS, headers, body)
        await put(infra, INBOUND, n % PARTITIONS, *binary(sale(f"{n}")))
    structured = {"content-type": b"application/cloudevents+json; charset=UTF-8"}
    await put(infra, INBOUND, 0, structured, orjson.dumps(sale("structured")))
    await put(infra, INBOUND, 0, structured, orjson.dumps(sale("s") | {"source": 7}))
    await until_read(contacts, infra)
    orders = await fetch(contacts, "select order_number from purchase")
    assert {row[0] for row in orders} == {*map(str, range(len(BAD))), "structured"}
    rejected = {(r["partition"], r["kafka_offset"]): r for r in await rejected_of(contacts)}
    assert len(rejected) == len(BAD) + 1
    for n, (name, (_, body, field)) in enumerate(BAD.items()):
        row = rejected[n % PARTITIONS, 2 * (n // PARTITIONS)]
        assert row["field"].removeprefix("ce_").startswith(field), name
        assert row["reason"] == "data_too_large" or row["reason"].startswith(row["field"]), name
        assert row["value"] == body, name


async def test_http_answers_with_the_same_reason(contacts: InProcess, infra: Infra) -> None:
    """RFC 9457 by HTTP and the reason in the table by Kafka are the same."""
    compared = {
        name: case for name, case in BAD.items() if "NUL" not in name and "media" not in name
    }
    for headers, body, _ in compared.values():
        await put(infra, INBOUND, 0, headers, body)
    await until_read(contacts, infra)
    rejected = await rejected_of(contacts)
    async with api_of(contacts) as api:
        for (name, (headers, body, _)), row in zip(compared.items(), rejected, strict=True):
            sent = {k.replace("ce_", "ce-"): over_http(k, v) for k, v in headers.items()}
            answer = await api.post("/v1/events", content=body or b"", headers=sent)
            assert answer.headers["content-type"] == "application/problem+json", name
            assert answer.status_code == (413 if row["reason"] == "data_too_large" else 422), name
            (error,) = answer.json()["errors"]
            assert error["reason"].replace("ce-", "") == row["reason"].replace("ce_", ""), name
            assert error["field"].removeprefix("ce-") == row["field"].removeprefix("ce_"), name
        assert await fetch(contacts, "select 1 from purchase") == []


async def test_a_rejected_record_is_resubmitted(contacts: InProcess, infra: Infra) -> None:
    """Once its source is registered it enters, once."""
    await put(infra, INBOUND, 0, *binary(sale("1", "stall")))
    await until_read(contacts, infra)
    (row,) = await rejected_of(contacts)
    where = f"/ops/rejected/{row['id']}/resubmit"
    async with ops_of(contacts) as ops, api_of(contacts) as api:
        refused = await ops.post(where)
        assert refused.status_code == 422
        assert refused.json()["errors"] == [{"field": "source", "reason": row["reason"]}]
        await api.post("/v1/sources", json={"source": "stall"})
        accepted = (await ops.post(where)).json()
        assert accepted["status"] == "accepted"
        again = (await ops.post(where)).json()
        assert again == {"status": "duplicate", "event_id": accepted["event_id"]}
    assert len(await fetch(contacts, "select 1 from purchase")) == 1
    (row,) = await rejected_of(contacts)
    assert row["resubmitted_at"] is not None


async def set_offset(process: InProcess, partition: int, offset: int) -> None:
    """Move the stored offset by hand."""
    await process.running.database.pool.execute(
        "update rapport.position set kafka_offset = $3 where stream = $1 and partition = $2",
        INBOUND,
        partition,
        offset,
    )


async def test_reading_again_changes_nothing(contacts: InProcess, toys: Toys, infra: Infra) -> None:
    """The offset goes back to the start; what is read again is known."""
    for n in range(5):
        await put(infra, INBOUND, 0, *binary(sale(f"{n}")))
        await put(infra, INBOUND, 0, {}, b"junk")
    await until_read(contacts, infra)
    before = await rows_of(contacts)
    assert len(before["purchase"]) == 5
    await set_offset(contacts, 0, 0)
    await contacts.stop()
    again = await start(toys, infra, inbound.accept)
    await until_read(again, infra)
    assert await rows_of(again) == before


async def test_records_that_were_deleted_unread_alarm(
    contacts: InProcess, toys: Toys, infra: Infra
) -> None:
    """A log that begins beyond the stored offset is said so, with the count; reading goes on."""
    await contacts.stop()
    for n in range(4):
        await put(infra, INBOUND, 0, *binary(sale(f"{n}")))
    admin = AIOKafkaAdminClient(bootstrap_servers=infra.kafka)
    await admin.start()
    await admin.delete_records({TopicPartition(INBOUND, 0): RecordsToDelete(before_offset=3)})
    await admin.close()
    with capture_logs() as logs:
        again = await start(toys, infra, inbound.accept)
        await until_read(again, infra)
    (alarm,) = [entry for entry in logs if entry["event"] == "inbound_records_lost"]
    assert (alarm["partition"], alarm["count"], alarm["log_level"]) == (0, 3, "error")
    assert [r[0] for r in await fetch(again, "select order_number from purchase")] == ["3"]


async def test_a_topic_made_anew_is_read_from_its_start(
    contacts: InProcess, toys: Toys, infra: Infra
) -> None:
    """Another record where the last one stood: the log is not the one that was read."""
    for n in range(3):
        await put(infra, INBOUND, 0, *binary(sale(f"old-{n}")))
    await until_read(contacts, infra)
    await contacts.stop()
    await lab.renew_topic(infra, INBOUND)
    for n in range(5):
        await put(infra, INBOUND, 0, *binary(sale(f"new-{n}")))
    with capture_logs() as logs:
        again = await start(toys, infra, inbound.accept)
        await until_read(again, infra)
    assert [entry["known"] for entry in logs if entry["event"] == "inbound_log_replaced"] == [3]
    orders = {r[0] for r in await fetch(again, "select order_number from purchase")}
    assert orders == {f"old-{n}" for n in range(3)} | {f"new-{n}" for n in range(5)}


async def test_an_ordinary_restart_is_not_an_alarm(
    contacts: InProcess, toys: Toys, infra: Infra
) -> None:
    """The last record may have been one that could not even be read."""
    await put(infra, INBOUND, 0, *binary(sale("1")))
    await put(infra, INBOUND, 0, {}, b"junk")
    await until_read(contacts, infra)
    await contacts.stop()
    with capture_logs() as logs:
        again = await start(toys, infra, inbound.accept)
        await put(infra, INBOUND, 0, *binary(sale("2")))
        await until_read(again, infra)
    assert not [entry for entry in logs if entry["log_level"] in {"error", "critical"}]
    assert len(await fetch(again, "select 1 from purchase")) == 2


async def test_a_door_that_fails(toys: Toys, infra: Infra, monkeypatch: pytest.MonkeyPatch) -> None:
    """One record that it cannot take is rejected as ours to mend; a broken door waits instead."""
    poison = {"bad-1"}
    monkeypatch.setattr(reader, "REJECTED_MOST", 2)

    async def accept(events: Sequence[External], tx: Tx) -> list[Outcome]:
        if poison & {event.id for event in events}:
            raise KeyError("a\0b")
        return await inbound.accept(events, tx)

    contacts = await start(toys, infra, accept)
    for n in range(20):
        await put(infra, INBOUND, 0, *binary(sale(f"bad-{n}")))
    await until_read(contacts, infra)
    (row,) = await rejected_of(contacts)
    assert row["source_id"] == "bad-1"
    assert row["reason"].startswith("internal: KeyError")
    assert len(await fetch(contacts, "select 1 from purchase")) == 19

    poison |= {f"worse-{n}" for n in range(5)}
    for n in range(5):
        await put(infra, INBOUND, 0, *binary(sale(f"worse-{n}")))
    runner = contacts.running.consuming.inbound
    assert runner is not None

    async def waits() -> bool:
        return runner._attempts > 4

    await until(waits, "the door waits", 60)
    assert len(await rejected_of(contacts)) <= 3
    poison.clear()
    await until_read(contacts, infra)
    assert len(await rejected_of(contacts)) <= 3
