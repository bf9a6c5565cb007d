"""Templates: sandboxed Jinja, in which a missing variable is an error."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEFAULT_LANGUAGE = "default"
MAX_SUBJECT_LENGTH = 200

_plain = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined,
    autoescape=False,  # plain text; the HTML part has an environment of its own
)
_html = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=True)


class RenderError(Exception):
    """The template does not fit its variables, or does what the sandbox forbids."""


@dataclass(frozen=True, slots=True)
class MessageTemplate:
    """A version of a template in one language; its texts never change."""

    code: str
    language: str
    version: int
    subject: str
    text: str
    html: str


@dataclass(frozen=True, slots=True)
class Rendered:
    """The words of one mail."""

    subject: str
    text: str
    html: str


def choose(templates: Sequence[MessageTemplate], language: str | None) -> MessageTemplate | None:
    """Choose by language: cs-CZ, then cs, then the default."""
    by_language = {template.language.lower(): template for template in templates}
    wanted = (language or "").replace("_", "-").lower()
    for candidate in (wanted, wanted.split("-", maxsplit=1)[0], DEFAULT_LANGUAGE):
        if candidate in by_language:
            return by_language[candidate]
    return None


def render(template: MessageTemplate, variables: Mapping[str, str | int]) -> Rendered:
    """Fill in the three parts; raises RenderError."""
    try:
        subject = _compiled(template.subject, html=False).render(variables)
        text = _compiled(template.text, html=False).render(variables)
        html = _compiled(template.html, html=True).render(variables)
    except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        # without the variables: they are personal data
        msg = f"{template.code} {template.language} {template.version}: {type(error).__name__}"
        raise RenderError(msg) from None
    return Rendered(" ".join(subject.split())[:MAX_SUBJECT_LENGTH], text, html)


@lru_cache(maxsize=256)
def _compiled(source: str, *, html: bool) -> Template:
    return (_html if html else _plain).from_string(source)
