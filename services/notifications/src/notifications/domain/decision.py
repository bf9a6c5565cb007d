"""Decides one message: asks the gates, and says what its row holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from notifications.domain import rendering
from notifications.domain.gates import Facts, Question, Verdict, decide
from notifications.domain.message import all_variables

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from uuid import UUID

    from notifications.domain.category import Rules
    from notifications.domain.message import Variables
    from notifications.domain.rendering import MessageTemplate

SAMPLE_URL = "https://rapport.example/"
"""Stands for the link when a template is tried out: its token is drawn at the hand-over."""
NO_TEMPLATE = "no_template"
RENDER_FAILED = "render_failed"


@dataclass(frozen=True, slots=True)
class Recipient:
    """A contact as the gates and the template see it."""

    facts: Facts
    given_name: str | None = None
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """What a rule wants to write; `variables` is asked only when the gates before it pass."""

    message_id: UUID
    subject_at: datetime
    variables: Callable[[], Variables]


@dataclass(frozen=True, slots=True)
class Context:
    """What all messages of a rule share at one moment."""

    rules: Rules
    templates: Sequence[MessageTemplate]
    now: datetime


@dataclass(frozen=True, slots=True)
class Decided:
    """The verdict, with the pinned template and its variables when it was rendered."""

    verdict: Verdict
    template: MessageTemplate | None
    variables: Variables | None
    consent_event_id: UUID | None


def decide_draft(draft: Draft, recipient: Recipient, context: Context) -> Decided:
    """Ask every gate; the last one fills the template in once, to see that it fits."""
    template = rendering.choose(context.templates, recipient.language)
    variables: Variables = {}

    def try_out() -> str | None:
        if template is None:
            return NO_TEMPLATE
        variables.update(draft.variables())
        words = all_variables(variables, recipient.given_name, SAMPLE_URL)
        try:
            rendering.render(template, words)
        except rendering.RenderError:
            return RENDER_FAILED
        return None

    verdict = decide(
        Question(
            message_id=draft.message_id,
            rules=context.rules,
            facts=recipient.facts,
            now=context.now,
            subject_at=draft.subject_at,
            expires_at=context.now + context.rules.age_limit,
            render=try_out,
        )
    )
    if verdict.refused:
        return Decided(verdict, None, None, None)
    needed = context.rules.message_class == "marketing"
    consent_event_id = recipient.facts.consent_event_id if needed else None
    return Decided(verdict, template, variables, consent_event_id)
