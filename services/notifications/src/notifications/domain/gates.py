"""The gates: why a message is, or is not, sent. Every one leaves a decision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Literal, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from notifications.domain.category import Rules
from notifications.domain.quiet_hours import quiet_until, spread

Stage = Literal["decision", "hand-over"]
Outcome = Literal["pass", "exempt", "refuse", "defer"]


class Decision(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one gate said. `reason` is a code; `stage` is left out for the first decision."""

    gate: str
    decision: Outcome
    reason: str | None = None
    stage: Stage = "decision"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about a recipient when the gates are asked.

    `handed_over` holds the hand-overs that the category's cap counts, the newest first. `wanted`
    is the recipient's preference, None where there is none.
    """

    has_address: bool
    suppressed: str | None = None
    granted: bool = False
    consent_event_id: UUID | None = None
    wanted: bool | None = None
    complaint_open: bool = False
    handed_over: Sequence[datetime] = ()
    zone: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """One message before the gates. `render` returns a reason when the template does not fit."""

    message_id: UUID
    rules: Rules
    facts: Facts
    now: datetime
    subject_at: datetime | None
    expires_at: datetime
    render: Callable[[], str | None]
    stage: Stage = "decision"


class Answer(NamedTuple):
    """What a gate decided; `until` is the instant to which it defers."""

    outcome: Outcome
    reason: str | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """All decisions; `refused` is the reason of the gate that said no, `due_at` the hand-over."""

    decisions: tuple[Decision, ...]
    refused: str | None
    due_at: datetime


PASS = Answer("pass")
EXEMPT = Answer("exempt")


def _dedupe(_question: Question) -> Answer:
    # The unique key of the message row is the gate: a second decision never gets this far.
    return PASS


def _class(question: Question) -> Answer:
    return Answer("pass", question.rules.message_class)


def _suppression(question: Question) -> Answer:
    if not question.facts.has_address:
        return Answer("refuse", "no_address")
    if question.facts.suppressed:
        return Answer("refuse", question.facts.suppressed)
    return PASS


def _consent(question: Question) -> Answer:
    if question.rules.message_class != "marketing":
        return EXEMPT
    return PASS if question.facts.granted else Answer("refuse", "consent")


def _preference(question: Question) -> Answer:
    rules = question.rules
    if rules.message_class != "marketing" and not rules.optional:
        return EXEMPT
    return Answer("refuse", "preference") if question.facts.wanted is False else PASS


def _complaint_hold(question: Question) -> Answer:
    if question.rules.message_class != "marketing":
        return EXEMPT
    held = question.rules.complaint_hold and question.facts.complaint_open
    return Answer("refuse", "complaint_hold") if held else PASS


def _cap(question: Question) -> Answer:
    cap = question.rules.cap
    if question.rules.message_class != "marketing":
        return EXEMPT
    if cap is None:
        return PASS
    if question.stage == "decision":
        return Answer("pass", "counted_at_hand_over")
    counted = [at for at in question.facts.handed_over if at > question.now - cap.window]
    if len(counted) < cap.count:
        return PASS
    if cap.overflow == "drop":
        return Answer("refuse", "cap")
    return Answer("defer", "cap", spread(counted[cap.count - 1] + cap.window, question.message_id))


def _quiet_hours(question: Question) -> Answer:
    zone = ZoneInfo(question.facts.zone or question.rules.zone)
    until = quiet_until(question.now, question.rules.quiet_hours, zone)
    if until is None:
        return PASS
    return Answer("defer", "quiet_hours", spread(until, question.message_id))


def _age(question: Question) -> Answer:
    limit = question.rules.subject_age
    if question.stage == "hand-over":
        return PASS if question.now <= question.expires_at else Answer("refuse", "expired")
    if limit and question.subject_at and question.now - question.subject_at > limit:
        return Answer("refuse", "too_old")
    return PASS


def _render(question: Question) -> Answer:
    reason = question.render()
    return Answer("refuse", reason) if reason else PASS


GATES: tuple[tuple[str, Callable[[Question], Answer]], ...] = (
    ("dedupe", _dedupe),
    ("class", _class),
    ("suppression", _suppression),
    ("consent", _consent),
    ("preference", _preference),
    ("complaint_hold", _complaint_hold),
    ("cap", _cap),
    ("quiet_hours", _quiet_hours),
    ("age", _age),
    ("render", _render),
)
CRITICAL = frozenset({"dedupe", "class", "suppression", "render"})


def decide(question: Question) -> Verdict:
    """Ask the gates in their order until one refuses; a deferring one does not stop the others."""
    critical = question.rules.message_class == "critical"
    decisions: list[Decision] = []
    due_at = question.now
    for name, gate in GATES:
        answer = EXEMPT if critical and name not in CRITICAL else gate(question)
        decisions.append(_decision(name, answer.outcome, answer.reason, question.stage))
        if answer.outcome == "refuse":
            return Verdict(tuple(decisions), answer.reason, due_at)
        if answer.until is not None:
            due_at = max(due_at, answer.until)
    return Verdict(tuple(decisions), None, due_at)


@lru_cache(maxsize=1024)
def _decision(gate: str, outcome: Outcome, reason: str | None, stage: Stage) -> Decision:
    return Decision(gate, outcome, reason, stage)


@lru_cache(maxsize=1024)
def decisions_json(decisions: tuple[Decision, ...]) -> str:
    """Return decisions as the JSON text that the message row stores."""
    return msgspec.json.encode(decisions).decode()


def send_decision(reason: str | None = None) -> str:
    """Return the last gate's decision, as a JSON list: handed over, or why that failed."""
    outcome: Outcome = "refuse" if reason else "pass"
    return decisions_json((_decision("send", outcome, reason, "hand-over"),))
