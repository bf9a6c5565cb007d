"""Which messages pass which gates, and what each gate says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from notifications.domain.category import Rules
from notifications.domain.gates import Facts, Question, Verdict, decide

NOW = datetime(2026, 3, 2, 10, tzinfo=UTC)
ID = UUID(int=5)  # spreads by five seconds
REACHABLE = Facts(has_address=True)
WILLING = replace(REACHABLE, granted=True)
QUIET: dict[str, Any] = {"quiet_hours": {"start": "21:00", "end": "12:00"}}
CAP: dict[str, Any] = {"cap": {"count": 2, "days": 7, "overflow": "drop"}}
HOLD: dict[str, Any] = {"complaint_hold": True}
ORDER = [
    *("dedupe", "class", "suppression", "consent", "preference"),
    *("complaint_hold", "cap", "quiet_hours", "age", "render"),
]
RECENT = (NOW - timedelta(days=1), NOW - timedelta(days=3))


def rules(message_class: str, **more: object) -> Rules:
    purpose = "marketing" if message_class == "marketing" else None
    given = {"message_class": message_class, "purpose": purpose, "subject_age_days": 7, **more}
    return Rules.model_validate(given)


def ask(category: Rules, facts: Facts, **more: Any) -> Verdict:  # noqa: ANN401  fields of Question
    question = Question(
        message_id=ID,
        rules=category,
        facts=facts,
        now=NOW,
        subject_at=NOW - timedelta(hours=1),
        expires_at=NOW + timedelta(hours=48),
        render=lambda: None,
    )
    return decide(replace(question, **more))


@pytest.mark.parametrize(
    ("message_class", "more", "facts", "refused"),
    [
        ("transactional", {}, REACHABLE, None),
        ("transactional", {}, Facts(has_address=False), "no_address"),
        ("transactional", {}, replace(REACHABLE, suppressed="hard_bounce"), "hard_bounce"),
        ("critical", {}, replace(REACHABLE, suppressed="hard_bounce"), "hard_bounce"),
        ("marketing", {}, WILLING, None),
        ("marketing", {}, REACHABLE, "consent"),
        ("marketing", {}, replace(WILLING, suppressed="hard_bounce"), "hard_bounce"),
        ("marketing", {}, replace(WILLING, wanted=False), "preference"),
        ("marketing", {}, replace(WILLING, wanted=True), None),
        ("transactional", {}, replace(REACHABLE, wanted=False), None),
        ("transactional", {"optional": True}, replace(REACHABLE, wanted=False), "preference"),
        ("marketing", {}, replace(WILLING, complaint_open=True), None),
        ("marketing", HOLD, replace(WILLING, complaint_open=True), "complaint_hold"),
        ("transactional", HOLD, replace(REACHABLE, complaint_open=True), None),
    ],
)
def test_gates_by_class(
    message_class: str, more: dict[str, Any], facts: Facts, refused: str | None
) -> None:
    assert ask(rules(message_class, **more), facts).refused == refused


def test_every_gate_leaves_a_decision_in_the_product_s_order() -> None:
    decisions = ask(rules("marketing"), WILLING).decisions
    assert [d.gate for d in decisions] == ORDER
    assert {d.decision for d in decisions} == {"pass"}


def test_a_class_is_exempt_from_gates_that_are_not_its_own() -> None:
    exempt = {
        message_class: {
            d.gate for d in ask(rules(message_class), WILLING).decisions if d.decision == "exempt"
        }
        for message_class in ("marketing", "transactional", "critical")
    }
    assert exempt["marketing"] == set()
    assert exempt["transactional"] == {"consent", "preference", "complaint_hold", "cap"}
    assert exempt["critical"] == exempt["transactional"] | {"quiet_hours", "age"}


def test_the_first_refusal_ends_the_questions() -> None:
    verdict = ask(rules("marketing"), REACHABLE)
    assert verdict.decisions[-1].gate == "consent"
    assert (verdict.decisions[-1].decision, verdict.decisions[-1].reason) == ("refuse", "consent")


@pytest.mark.parametrize(
    ("age", "refused"),
    [
        (timedelta(days=7), None),
        (timedelta(days=7, microseconds=1), "too_old"),
        (timedelta(days=-1), None),
    ],
)
def test_what_is_older_than_its_limit_is_not_written_about(
    age: timedelta, refused: str | None
) -> None:
    assert ask(rules("transactional"), REACHABLE, subject_at=NOW - age).refused == refused


def test_a_template_that_does_not_fit_stops_the_message() -> None:
    assert ask(rules("transactional"), REACHABLE, render=lambda: "render_failed").refused == (
        "render_failed"
    )


def test_quiet_hours_defer_to_the_window_s_end_and_spread() -> None:
    verdict = ask(rules("marketing", **QUIET), WILLING)
    assert verdict.refused is None
    assert verdict.due_at == datetime(2026, 3, 2, 11, 0, 5, tzinfo=UTC)  # 12:00 in Prague


def test_quiet_hours_follow_the_recipient_s_zone() -> None:
    verdict = ask(rules("marketing", **QUIET), replace(WILLING, zone="Pacific/Auckland"))
    assert verdict.due_at == datetime(2026, 3, 2, 23, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize("stage", ["decision", "hand-over"])
def test_a_cap_counts_at_the_hand_over_only(stage: str) -> None:
    facts = replace(WILLING, handed_over=RECENT)
    verdict = ask(rules("marketing", **CAP), facts, stage=stage)
    assert verdict.refused == ("cap" if stage == "hand-over" else None)


def test_a_cap_forgets_what_is_older_than_its_window() -> None:
    facts = replace(WILLING, handed_over=(RECENT[0], NOW - timedelta(days=7)))
    assert ask(rules("marketing", **CAP), facts, stage="hand-over").refused is None


def test_a_cap_that_defers_waits_until_a_place_is_free() -> None:
    category = rules("marketing", cap={"count": 2, "days": 7, "overflow": "defer"})
    verdict = ask(category, replace(WILLING, handed_over=RECENT), stage="hand-over")
    assert verdict.refused is None
    assert verdict.due_at == RECENT[1] + timedelta(days=7, seconds=5)


def test_a_message_that_waited_beyond_its_limit_is_dropped_at_the_hand_over() -> None:
    verdict = ask(
        rules("transactional"),
        REACHABLE,
        stage="hand-over",
        expires_at=NOW - timedelta(seconds=1),
        subject_at=None,
    )
    assert verdict.refused == "expired"
