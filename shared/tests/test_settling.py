"""Settling and moving the clock, against a suite that answers from memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest

from rapport import settling
from rapport.opsclient import OpsClient, RefusedError, UnreachableError
from rapport.settling import (
    ClockError,
    NotSettledError,
    PartitionStoppedError,
    Standing,
    advance_clock,
    list_open,
    set_clock,
    settle,
)

BEGIN = datetime(1998, 1, 1, tzinfo=UTC)
CONTACTS, LOYALTY = "contacts.events.v1", "loyalty.events.v1"


class Suite:
    """Two services; a test changes their answers, and gives timers that fire at once."""

    def __init__(self) -> None:
        self.clocks = {name: [BEGIN, BEGIN] for name in ("contacts", "loyalty")}
        self.answers: dict[str, dict[str, Any]] = {
            "contacts": {"produced": {"0": 2}, "positions": {LOYALTY: {"0": 1}}},
            "loyalty": {"produced": {"0": 1}, "positions": {CONTACTS: {"0": 2}}},
        }
        self.due: list[datetime] = []
        self.seen: list[tuple[str, str]] = []
        self.looks = 0
        self.down: set[str] = set()
        self.status = 200

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        name = request.url.host
        if name in self.down:
            raise httpx.ConnectError("refused", request=request)
        if self.status != httpx.codes.OK:
            return httpx.Response(self.status, json={"title": "no", "detail": "not now"})
        if request.method == "POST":
            ((field, value),) = msgspec.json.decode(request.content).items()
            self.seen.append((name, field))
            self.clocks[name][field == "fire_until"] = datetime.fromisoformat(value)
            return httpx.Response(200, json={})
        self.looks += 1
        now, until = self.clocks[name]
        later = [due for due in self.due if due > until]
        return httpx.Response(
            200,
            json={
                "service": name,
                "clock": {"now": now.isoformat(), "fire_until": until.isoformat()},
                "next_due": min(later).isoformat() if later else None,
                **self.answers[name],
            },
        )

    @contextmanager
    def client(self) -> Iterator[OpsClient]:
        """Give a client whose requests come here."""
        client = OpsClient({"contacts": "http://contacts", "loyalty": "http://loyalty"})
        client._http = httpx.AsyncClient(transport=httpx.MockTransport(self.answer))
        yield client


@pytest.fixture
def suite() -> Suite:
    return Suite()


async def test_a_quiet_suite_settles_after_two_equal_readings(suite: Suite) -> None:
    with suite.client() as client:
        standings = await settle(client, 1)

    assert suite.looks == 4
    assert standings["contacts"].produced == {0: 2}


@pytest.mark.parametrize(
    ("service", "change", "line"),
    [
        ("contacts", {"open_outbox": 1}, "contacts: 1 outbox rows without a number"),
        ("contacts", {"unsent": 3}, "contacts: 3 numbers not acknowledged by Kafka"),
        ("contacts", {"timers_due": 2}, "contacts: 2 timers due"),
        ("loyalty", {"pending": {"mails": 4, "other": 0}}, "loyalty: 4 mails pending"),
        (
            "contacts",
            {"inbound": {"5": {"position": 7, "end": 9}}},
            "contacts: 2 inbound records unread in partition 5",
        ),
        (
            "loyalty",
            {"positions": {CONTACTS: {"0": 1}}},
            "loyalty: 1 behind 2 on contacts.events.v1 partition 0",
        ),
        ("loyalty", {"positions": {}}, "loyalty: 2 behind 2 on contacts.events.v1 partition 0"),
    ],
)
async def test_what_is_open_is_named_after_the_deadline(
    suite: Suite, service: str, change: dict[str, Any], line: str
) -> None:
    suite.answers[service] |= change

    with suite.client() as client, pytest.raises(NotSettledError) as caught:
        await settle(client, 0.05)

    assert caught.value.open == [line]


async def test_a_stopped_partition_fails_at_once(suite: Suite) -> None:
    suite.answers["loyalty"]["stopped"] = [{"stream": CONTACTS, "partition": 0}]
    begun = time.monotonic()

    with suite.client() as client, pytest.raises(PartitionStoppedError, match="loyalty"):
        await settle(client, 60)

    assert time.monotonic() - begun < 30


async def test_a_forked_stream_fails_at_once(suite: Suite) -> None:
    suite.answers["contacts"] |= {"fork": "Kafka is ahead", "unsent": 3}
    with suite.client() as client, pytest.raises(PartitionStoppedError, match="Kafka is ahead"):
        await settle(client, 60)


async def test_numbers_that_still_rise_are_not_settled(
    suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reading alone looks quiet; only two equal ones count."""
    numbers = iter(range(3, 100))
    original = settling.read_standings

    async def rising(client: OpsClient) -> settling.Standings:
        if suite.looks < 10:
            number = next(numbers)
            suite.answers["contacts"]["produced"] = {"0": number}
            suite.answers["loyalty"]["positions"] = {CONTACTS: {"0": number}}
        return await original(client)

    monkeypatch.setattr(settling, "read_standings", rising)
    with suite.client() as client:
        standings = await settle(client, 5)

    assert standings["contacts"].produced == {0: 7}


async def test_a_service_that_is_down_is_waited_for(suite: Suite) -> None:
    suite.down = {"loyalty"}

    with suite.client() as client, pytest.raises(NotSettledError, match="loyalty does not answer"):
        await settle(client, 0.05)


async def test_a_server_error_may_pass_and_a_refusal_does_not(suite: Suite) -> None:
    with suite.client() as client:
        suite.status = 503
        with pytest.raises(NotSettledError, match="not now"):
            await settle(client, 0.05)
        suite.status = 404
        with pytest.raises(RefusedError, match="not now"):
            await settle(client, 60)


async def test_now_reaches_everybody_before_timers_may_fire(suite: Suite) -> None:
    with suite.client() as client:
        await set_clock(client, BEGIN + timedelta(hours=1))

    assert [field for _, field in suite.seen] == ["now", "now", "fire_until", "fire_until"]


async def test_the_clock_stops_at_each_due_instant_and_each_day(suite: Suite) -> None:
    suite.due = [BEGIN + timedelta(hours=9), BEGIN + timedelta(days=2, hours=12)]
    reached: list[datetime] = []

    with suite.client() as client:
        await advance_clock(client, BEGIN + timedelta(days=3), reached.append)

    hours = [(now - BEGIN) // timedelta(hours=1) for now in reached]
    assert hours == [9, 33, 57, 60, 72]
    assert suite.clocks["loyalty"] == [BEGIN + timedelta(days=3)] * 2


async def test_an_interrupted_move_is_finished_first(suite: Suite) -> None:
    suite.clocks["contacts"] = [BEGIN + timedelta(hours=2), BEGIN]

    with suite.client() as client:
        await advance_clock(client, BEGIN + timedelta(hours=2))

    assert suite.clocks["loyalty"] == suite.clocks["contacts"] == [BEGIN + timedelta(hours=2)] * 2


async def test_the_clock_does_not_go_back(suite: Suite) -> None:
    with suite.client() as client, pytest.raises(ClockError):
        await advance_clock(client, BEGIN - timedelta(hours=1))


async def test_another_replica_is_asked_when_one_is_down(suite: Suite) -> None:
    suite.down = {"first"}
    suite.answers["second"] = suite.answers["contacts"]
    suite.clocks["second"] = [BEGIN, BEGIN]
    client = OpsClient({"contacts": ["http://first", "http://second"]})
    client._http = httpx.AsyncClient(transport=httpx.MockTransport(suite.answer))

    assert (await client.get("contacts", "/ops/settle")).status_code == httpx.codes.OK
    with pytest.raises(UnreachableError):
        await client.get("loyalty", "/ops/settle")


def test_a_stream_without_any_event_is_not_behind() -> None:
    clock = settling.ClockState(BEGIN, BEGIN)
    quiet = {n: Standing(n, clock, produced={0: 0}) for n in ("contacts", "loyalty")}

    assert list_open(quiet) == []
