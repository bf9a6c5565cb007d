"""Segments: rules as data over a contact's figures, and what crossing their borders means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

Measure = Literal["kept_purchases", "purchase_days", "monetary_minor"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
Direction = Literal["entered", "exited", "joined"]


class Measured(Protocol):
    """Figures that a rule can look at."""

    kept_purchases: int
    purchase_days: int
    monetary_minor: int


@dataclass(frozen=True, slots=True)
class Condition:
    """Bounds of one measure, both included; an absent one does not bind."""

    measure: Measure
    at_least: int | None = None
    at_most: int | None = None

    def holds(self, figures: Measured) -> bool:
        """Tell whether the figure lies within the bounds."""
        value: int = getattr(figures, self.measure)
        if self.at_least is not None and value < self.at_least:
            return False
        return self.at_most is None or value <= self.at_most


@dataclass(frozen=True, slots=True)
class Segment:
    """A version of a rule; it holds when all its conditions do."""

    code: str
    version: int
    conditions: tuple[Condition, ...]

    @classmethod
    def from_rule(cls, code: str, version: int, rule: dict[str, Any]) -> Segment:
        """Read a rule as it is stored."""
        return cls(code, version, tuple(Condition(**condition) for condition in rule["all"]))

    def holds(self, figures: Measured) -> bool:
        """Tell whether figures satisfy the rule."""
        return all(condition.holds(figures) for condition in self.conditions)


@dataclass(frozen=True, slots=True)
class Step:
    """A border was crossed."""

    segment: Segment
    direction: Direction


def cross(figures: Measured, memberships: set[str], segments: Iterable[Segment]) -> list[Step]:
    """Bring `memberships` up to date with the figures; return what was crossed, by code."""
    steps: list[Step] = []
    for segment in segments:
        holds = segment.holds(figures)
        if holds and segment.code not in memberships:
            memberships.add(segment.code)
            steps.append(Step(segment, "entered"))
        elif not holds and segment.code in memberships:
            memberships.remove(segment.code)
            steps.append(Step(segment, "exited"))
    return steps


def join(memberships: set[str], others: set[str], segments: Sequence[Segment]) -> list[Step]:
    """Unite the memberships of two contacts that became one; double ones are `joined`."""
    double = memberships & others
    memberships |= others
    return [Step(segment, "joined") for segment in segments if segment.code in double]
