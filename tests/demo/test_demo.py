"""A scaled demo from end to end: it agrees, notices every change by hand, and can be repeated."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from tests.demo.kept import NAME, Kept
from tests.demo.sabotage import SABOTAGES, Sabotage

pytestmark = pytest.mark.demo

PUBLISHED_TWICE = """
insert into rapport.outbox
    (event_id, key, hash, contacts, type, occurred_at, body, trace, cause_id, cause_hash, causal)
select event_id, key, hash, contacts, type, occurred_at, body, trace, cause_id, cause_hash, causal
from rapport.outbox where type like '%purchase-recorded%' order by number limit 1
"""


def test_the_report_says_what_went_through(kept: Kept) -> None:
    report = kept.report

    assert report["agrees"] is True
    assert report["differences"] == []
    assert (report["contacts"], report["purchases"]) == (1_178, 3_372)
    assert report["revenue_gross_minor"] - report["revenue_minor"] > 0
    assert report["mails"] == report["messages"]["sent"] > 0
    assert set(report["points"]) == {"pending", "active", "held", "debt"}
    assert set(report["bgnbd"]) == {"r", "alpha", "a", "b"}
    reconciliation = report["reconciliation"]
    assert [reconciliation[name] for name in ("in_flight", "parked", "missing")] == [0, 0, 0]
    assert len(reconciliation["streams"]) == 12
    assert report["throughput"]["events_per_second"] > 0
    assert set(report["latency_ms"]) == {"loyalty", "notifications", "analytics"}
    assert all(figures["events"] > 0 for figures in report["latency_ms"].values())
    assert {"postgres", "kafka", "contacts-0", "analytics-0"} <= set(report["memory_mb"])


def test_points_were_pending_at_the_end_of_june(kept: Kept) -> None:
    june = kept.report["checked"]["1998-06-30"]["loyalty"]

    assert june["points"]["pending"] > 0
    assert kept.report["points"]["pending"] == 0


def test_one_purchase_is_followed_into_every_service(kept: Kept) -> None:
    hops = kept.report["journey"]["hops"]
    told = {(service, what.split(",")[0]) for _, service, what in hops}

    assert ("contacts", "writes contacts.purchase-recorded") in told
    assert ("loyalty", "writes loyalty.points-pending") in told
    assert ("loyalty", "writes loyalty.points-awarded") in told
    assert ("notifications", "writes notifications.message-sent") in told
    assert ("analytics", "writes analytics.profile-updated") in told


def test_the_whole_file_again_changes_nothing(kept: Kept, tmp_path: Path) -> None:
    path = tmp_path / "again.json"

    done = kept.demo("--into", NAME, "--json", str(path))

    assert done.returncode == 0, done.stdout[-3000:]
    again = json.loads(path.read_text())
    assert again["checked"]["1998-07-31"] == kept.report["checked"]["1998-07-31"]
    assert again["reconciliation"]["streams"] == kept.report["reconciliation"]["streams"]


@pytest.mark.parametrize(
    "command",
    [
        ("settle",),
        ("reconcile",),
        ("clock", "show"),
        ("position", "show"),
        ("parked", "list"),
        ("rejected", "list"),
        ("events", "show", "purchase-1", "--source", "cdnow"),
    ],
    ids=" ".join,
)
def test_the_command_line_reads_the_copy(kept: Kept, command: Sequence[str]) -> None:
    state = str(kept.folder / NAME / "state.json")
    program = [sys.executable, "-m", "rapport.cli.main", "--runtime", state]

    done = subprocess.run(
        [*program, *command, "--json"], check=False, capture_output=True, text=True, timeout=120
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)


def run_by_hand(kept: Kept, place: str, statements: Sequence[str]) -> None:
    """Run statements where a sabotage wants them."""
    if place != "sink":
        kept.sql(place, *statements)
        return
    with closing(sqlite3.connect(kept.mails, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda sabotage: sabotage.name)
def test_a_change_by_hand_is_named(kept: Kept, sabotage: Sabotage) -> None:
    run_by_hand(kept, sabotage.place, sabotage.change)
    try:
        done = kept.check()
    finally:
        run_by_hand(kept, sabotage.place, sabotage.undo)

    assert done.returncode == 1, done.stdout[-3000:]
    assert any(
        "DIFFERENT" in line and sabotage.named in line for line in done.stdout.splitlines()
    ), done.stdout[-3000:]


def test_all_is_well_again_when_the_changes_are_undone(kept: Kept) -> None:
    done = kept.check()

    assert done.returncode == 0, done.stdout[-3000:]


def test_an_event_written_twice_has_one_effect_and_is_named(kept: Kept) -> None:
    """The second row gets a number and reaches everybody; stays last, for it cannot be undone."""
    before = kept.report["checked"]["1998-07-31"]
    kept.sql("contacts", PUBLISHED_TWICE)

    done = kept.check()

    lines = [line for line in done.stdout.splitlines() if "DIFFERENT" in line]
    assert done.returncode == 1
    assert len(lines) == 2, lines
    assert any("contacts: events published is" in line for line in lines)
    assert any("contacts: outbox rows is" in line for line in lines)
    assert before["analytics"]["facts"]["purchase"] == kept.report["purchases"]
