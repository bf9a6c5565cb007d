"""The command line against a suite that answers from memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from typer.testing import CliRunner, Result

from rapport.cli.addresses import from_state, parse_urls
from rapport.cli.events import read_events
from rapport.cli.main import app
from rapport.opsclient import OpsClient

PURCHASE, AWARD = (f"00000000-0000-8000-8000-00000000000{n}" for n in (1, 2))
PLACE = {"stream": "contacts.events.v1", "partition": 0, "number": 1}
PARKED = {"id": 7, "reason": "failed", "contacts": ["c1"], **PLACE}
REDRIVEN = {
    "contacts": ["c1"],
    "events": [{"event_id": PURCHASE}],
    "changes": [{"table": "lot", "before": [], "after": [{"points": 5}]}],
    "published": [{"id": AWARD, "type": "rapport.loyalty.points-awarded.v1", "key": "c1"}],
}


def statement(service: str, numbered: int = 2) -> dict[str, Any]:
    stream = f"{service}.events.v1"
    others = {s: {"0": 2} for s in ("contacts.events.v1", "loyalty.events.v1") if s != stream}
    outbox = {"0": {"rows": 2, "numbered": numbered}}
    return {
        "service": service,
        "stream": stream,
        "produced": {"0": 2},
        "positions": others,
        "parked": {},
        "outbox": outbox,
        "gaps": [],
    }


def written(event: str, kind: str, at: str) -> dict[str, Any]:
    return {
        "event_id": event,
        "type": kind,
        "partition": 0,
        "number": 1,
        "written_at": f"2026-01-01T00:00:0{at}Z",
    }


class Suite:
    """Answers requests by service and path, and remembers what was posted."""

    def __init__(self) -> None:
        purchase = written(PURCHASE, "rapport.contacts.purchase-recorded.v1", "0.0")
        award = written(AWARD, "rapport.loyalty.points-awarded.v1", "0.2")
        applied = [{"committed_at": "2026-01-01T00:00:00.1Z", "attempts": 1, "applied": 1}]
        self.posted: list[tuple[str, str, Any]] = []
        self.answers: dict[str, Any] = {
            f"contacts/ops/events/{PURCHASE}": {
                "published": purchase,
                "inbox": {"source": "till", "id": "o1"},
                "caused": [],
            },
            f"loyalty/ops/events/{PURCHASE}": {"caused": [{"event_id": AWARD}]},
            f"contacts/ops/events/{AWARD}": {"caused": []},
            f"loyalty/ops/events/{AWARD}": {"published": award, "caused": []},
            "contacts/ops/applied": [],
            "loyalty/ops/applied": applied,
            "contacts/ops/parked": {"items": []},
            "loyalty/ops/parked": {"items": [PARKED]},
            "loyalty/ops/parked/7": PARKED,
            "loyalty/ops/parked/redrive": REDRIVEN,
            "contacts/ops/rejected": {"items": [{"id": 3, "reason": "source: unknown"}]},
            "loyalty/ops/rejected": {"items": []},
            "contacts/ops/rejected/3/resubmit": {"status": "accepted"},
            "contacts/ops/reconciliation": statement("contacts"),
            "loyalty/ops/reconciliation": statement("loyalty"),
            "contacts/ops/positions": [],
            "loyalty/ops/positions": [{"stream": "contacts.events.v1", "partition": 0}],
            "loyalty/ops/positions/resume": {"resumed": [0]},
        }

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        place = request.url.host + request.url.path
        if request.method == "POST":
            self.posted.append((request.url.host, request.url.path, json.loads(request.content)))
        if place not in self.answers:
            return httpx.Response(404, json={"title": "Not found", "detail": "nothing there"})
        return httpx.Response(200, content=msgspec.json.encode(self.answers[place]))

    def run(self, *arguments: str) -> Result:
        """Run a command against this suite."""
        urls = "contacts=http://contacts,loyalty=http://loyalty"
        return CliRunner().invoke(app, ["--urls", urls, *arguments])


@pytest.fixture
def suite(monkeypatch: pytest.MonkeyPatch) -> Suite:
    made = Suite()
    original = OpsClient.__init__

    def answered(self: OpsClient, *arguments: Any) -> None:  # noqa: ANN401  whatever it takes
        original(self, *arguments)
        self._http = httpx.AsyncClient(transport=httpx.MockTransport(made.answer))

    monkeypatch.setattr(OpsClient, "__init__", answered)
    return made


def test_an_event_is_followed_through_the_services(suite: Suite) -> None:
    shown = suite.run("events", "show", PURCHASE, "--json")

    journey = json.loads(shown.output)
    assert shown.exit_code == 0
    assert journey["service"] == "contacts"
    assert journey["accepted"]["id"] == "o1"
    assert len(journey["applied"]["loyalty"]) == 1
    (caused,) = journey["caused"]
    assert (caused["id"], caused["service"]) == (AWARD, "loyalty")


def test_a_journey_is_drawn_with_times(suite: Suite) -> None:
    shown = suite.run("events", "show", PURCHASE)

    assert "loyalty applied it +100 ms" in shown.output
    assert "rapport.loyalty.points-awarded.v1" in shown.output
    assert "+200 ms" in shown.output


def test_an_unknown_event_is_one_line_and_exit_code_1(suite: Suite) -> None:
    for service in ("contacts", "loyalty"):
        suite.answers[f"{service}/ops/events/{PURCHASE}"] = {"caused": []}

    shown = suite.run("events", "show", PURCHASE)

    assert shown.exit_code == 1
    assert f"no service knows {PURCHASE}" in shown.output


def test_parked_events_are_listed_with_their_service(suite: Suite) -> None:
    listed = suite.run("parked", "list").output
    for text in ("loyalty", "failed", "contacts.events.v1 0:1", "c1"):
        assert text in listed
    assert json.loads(suite.run("parked", "list", "--json").output)["loyalty"]["items"] == [PARKED]


def test_a_parked_event_is_found_wherever_it_waits(suite: Suite) -> None:
    assert json.loads(suite.run("parked", "show", "7").output) == {"loyalty": PARKED}
    assert suite.run("parked", "show", "8").exit_code == 1


@pytest.mark.parametrize("dry", [True, False])
def test_redrive_says_what_changes(suite: Suite, *, dry: bool) -> None:
    shown = suite.run("parked", "redrive", "loyalty", "c1", *(["--dry-run"] if dry else []))

    assert suite.posted == [
        ("loyalty", "/ops/parked/redrive", {"contact_id": "c1", "dry_run": dry})
    ]
    assert ("would be applied" in shown.output) is dry
    assert '+ {"points":5}' in shown.output


def test_a_refusal_is_one_line_and_exit_code_1(suite: Suite) -> None:
    shown = suite.run("parked", "redrive", "contacts", "c1")

    assert shown.exit_code == 1
    assert "contacts: nothing there" in shown.output


def test_rejected_records_are_listed_and_resubmitted(suite: Suite) -> None:
    assert "source: unknown" in suite.run("rejected", "list").output
    assert json.loads(suite.run("rejected", "resubmit", "3").output) == {"status": "accepted"}


def test_what_reconciles_ends_with_0(suite: Suite) -> None:
    shown = suite.run("reconcile", "--json")

    found = json.loads(shown.output)
    assert shown.exit_code == 0
    assert found["differences"] == []
    assert {c["applied"] for c in found["consumed"]} == {2}


def test_an_outbox_row_too_many_ends_with_1(suite: Suite) -> None:
    suite.answers["loyalty/ops/reconciliation"] = statement("loyalty", numbered=1)

    shown = suite.run("reconcile")

    assert shown.exit_code == 1
    assert "1 rows too many for 1 numbers" in shown.output


def test_a_partition_is_resumed_by_the_owner_of_its_stream(suite: Suite) -> None:
    assert suite.run("position", "resume", "loyalty", "contacts").exit_code == 0
    assert suite.posted[0][2] == {"stream": "contacts.events.v1", "partition": None}


@pytest.mark.parametrize("text", ["contacts=http://a,loyalty=http://b", '{"contacts": "http://a"}'])
def test_addresses_come_as_pairs_or_json(text: str) -> None:
    assert parse_urls(text)["contacts"] == "http://a"


@pytest.mark.parametrize("text", ["shop=http://a", "contacts", '{"contacts": ""}'])
def test_wrong_addresses_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="service=URL"):
        parse_urls(text)


def test_addresses_come_from_a_copy(tmp_path: Path) -> None:
    urls = {"contacts": "a", "contacts-1-ops": "d", "contacts-ops": "c", "sink": "s"}
    state = {"urls": urls, "databases": {"contacts": "dsn"}, "kafka": "k"}
    path = tmp_path / "state.json"
    path.write_text(json.dumps(state))

    found = from_state(str(path))

    assert found.ops == {"contacts": ["c", "d"]}
    assert found.api == {"contacts": "a"}
    assert found.kafka == "k"


@pytest.mark.parametrize("text", ['[{"id": "a"}, {"id": "b"}]', '{"id": "a"}\n\n{"id": "b"}\n'])
def test_events_are_read_as_a_list_or_by_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "events.json"
    path.write_text(text)

    assert read_events(path) == [{"id": "a"}, {"id": "b"}]
