"""The independent count against small files counted by hand."""

from __future__ import annotations

import ast
import gzip
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from rapport_local.demo import count as module
from rapport_local.demo.count import count

END = date(1998, 7, 31)
JUNE = date(1998, 6, 30)

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_rows(*rows: str, before: int = 0) -> Path:
        """Write a file; `before` rows of customer 1 stand in front and give the row numbers."""
        filler = [" 00001 19970101  1   0.00"] * before
        path = tmp_path / "purchases.txt.gz"
        lines = [" customer_id  date number_of_cds  dollar_value", *filler, *rows]
        with gzip.open(path, "wt") as file:
            file.write("".join(f"{line}\r\n" for line in lines))
        return path

    return write_rows


def test_imports_nothing_but_the_standard_library() -> None:
    tree = ast.parse(Path(module.__file__).read_text())
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [])
        + [alias.name for alias in node.names if isinstance(node, ast.Import)]
    }
    assert imported <= sys.stdlib_module_names


def test_an_old_purchase_of_a_customer_with_consent(write: Write) -> None:
    """1997 in bulk: active at once, too old for a thank-you, and remembered a year later."""
    path = write(" 00002 19970310  3   120.99")

    found = count(path, END)

    assert found["contacts"] == found["consents"] == found["purchases"] == 1
    assert found["revenue_gross_minor"] == found["revenue_minor"] == 12_099
    assert found["points_active"] == 120
    assert found.get("points_pending", 0) == 0
    assert found.get("pended", 0) == 0
    assert found["awarded"] == 1
    assert found["thanks_too_old"] == 1
    assert found["anniversaries"] == found["anniversary_sent"] == 1
    assert found["messages_sent"] == 1
    assert found["segment_entered"] == found["segment_members"] == 1
    # registered, consent, purchase, anniversary
    assert found["events_contacts"] == 4
    assert found["events_loyalty"] == 2
    # suppressed, queued, sent
    assert found["events_notifications"] == 3
    assert found["events_analytics"] == 2
    assert found["journals"] == 1
    assert found["ledger_lines"] == 2


def test_the_anniversary_comes_on_its_day(write: Write) -> None:
    path = write(" 00002 19970310  3   120.99")

    assert count(path, date(1998, 3, 9)).get("anniversaries", 0) == 0
    assert count(path, date(1998, 3, 10))["anniversaries"] == 1


def test_without_consent_the_anniversary_thanks_are_suppressed(write: Write) -> None:
    found = count(write(" 00003 19970310  3   20.00"), END)

    assert found["anniversary_consent"] == 1
    assert found.get("anniversary_sent", 0) == 0
    assert found.get("segment_entered", 0) == 0


def test_only_the_first_kept_purchase_is_remembered_by_mail(write: Write) -> None:
    path = write(
        " 00002 19970310  1   0.00", " 00002 19970311  1   5.00", " 00002 19970312  1   5.00"
    )

    found = count(path, END)

    assert found["anniversaries"] == 2
    assert found["anniversary_sent"] == 1


def test_a_free_purchase_leaves_nothing_but_its_record(write: Write) -> None:
    found = count(write(" 00002 19970310  1   0.00"), END)

    assert found["purchases"] == 1
    for name in ("awarded", "thanks_too_old", "anniversaries", "journals"):
        assert found.get(name, 0) == 0


@pytest.mark.parametrize(
    ("day", "outcome"), [("19971224", "thanks_too_old"), ("19971225", "thanks_sent")]
)
def test_thanks_go_out_within_seven_days(write: Write, day: str, outcome: str) -> None:
    assert count(write(f" 00002 {day}  1   5.00"), END)[outcome] == 1


@pytest.mark.parametrize(("day", "pended"), [("19971217", 0), ("19971218", 1)])
def test_points_are_active_at_once_after_fourteen_days(write: Write, day: str, pended: int) -> None:
    found = count(write(f" 00002 {day}  1   5.00"), END)

    assert found.get("pended", 0) == pended
    assert found["awarded"] == 1
    assert found["ledger_lines"] == 2 + 2 * pended


def test_points_are_pending_at_the_end_of_june(write: Write) -> None:
    path = write(" 00002 19980616  1   5.00", " 00002 19980617  1   7.00")

    june, end = count(path, JUNE), count(path, END)

    assert june["points_active"] == 5
    assert june["points_pending"] == 7
    assert june["lots_pending"] == 1
    assert end["points_active"] == 12
    assert end.get("points_pending", 0) == 0


def test_every_fiftieth_row_is_refunded_twenty_days_later(write: Write) -> None:
    path = write(" 00002 19980310  1   150.00", before=49)

    before, after = count(path, date(1998, 3, 29)), count(path, date(1998, 3, 30))

    assert before.get("refunds", 0) == 0
    assert before["points_active"] == 150
    assert after["refunds"] == 1
    assert after["refunded_minor"] == 15_000
    assert after["revenue_minor"] == 0
    assert after.get("points_active", 0) == 0
    assert after["segment_entered"] == after["segment_exited"] == 1
    assert after["thanks_sent"] == 1
    # issued, activated, clawed back
    assert after["ledger_lines"] == 6
    assert after["external_events"] == before["external_events"] + 1


def test_every_five_hundredth_row_is_refunded_before_its_purchase(write: Write) -> None:
    path = write(" 00002 19980310  1   150.00", before=499)

    found = count(path, date(1998, 3, 10))

    assert found["refunds"] == 10, "every 50th of the free rows before it is refunded too"
    assert found["reversed"] == found["pended"] == 1
    assert found.get("awarded", 0) == 0
    assert count(path, END).get("awarded", 0) == 0
    assert found["segment_entered"] == found["segment_exited"] == 1
    assert found["thanks_sent"] == 1


def test_a_refunded_purchase_has_no_anniversary(write: Write) -> None:
    path = write(" 00002 19970310  1   150.00", " 00002 19970401  1   5.00", before=49)

    found = count(path, END)

    assert found["anniversaries"] == found["anniversary_sent"] == 1


def test_a_refund_of_nothing_is_counted_and_changes_nothing(write: Write) -> None:
    found = count(write(" 00002 19970310  1   0.00", before=49), END)

    assert found["refunds"] == 1
    for name in ("refunded_minor", "reversed", "journals", "segment_exited"):
        assert found.get(name, 0) == 0


def test_refunds_can_be_left_out(write: Write) -> None:
    found = count(write(" 00002 19980310  1   150.00", before=49), END, refunds=False)

    assert found.get("refunds", 0) == 0
    assert found["points_active"] == 150


def test_crossings_are_counted_in_the_order_of_publication(write: Write) -> None:
    """Falls below with the refund at noon, and rises again with the purchase of the same noon."""
    path = write(" 00002 19980310  1   150.00", " 00002 19980330  1   100.00", before=49)

    found = count(path, END)

    assert found["segment_entered"] == 2
    assert found["segment_exited"] == 1
    assert found["segment_members"] == 1


def test_a_scaled_count_takes_one_customer_of_each_block(write: Write) -> None:
    rows = [f" {number:05} 19970310  1   5.00" for number in range(1, 41)]

    found = count(write(*rows), END, scale=20)

    # customer 1 of the first block, 22 of the second
    assert found["contacts"] == 2
    assert found["consents"] == 1
