"""What a copy of the suite is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

from rapport_local.settings import LocalSettings

SERVICES = ("contacts", "loyalty", "notifications", "analytics")


def _quiet(_line: str) -> None:
    pass


class ShapeOptions(TypedDict, total=False):
    """The keywords of `Runtime`; `Shape` says what they mean."""

    clock: str
    replicas: int
    services: Sequence[str]
    extra_env: Mapping[str, str]
    ports: Mapping[str, int]
    settings: LocalSettings
    tell: Callable[[str], None]
    sink: bool
    topics: bool


@dataclass(frozen=True)
class Shape:
    """How many of what, and with which environment."""

    clock: str = "real"
    """`real` or `simulated`, for all services."""
    replicas: int = 1
    """Processes of each service."""
    services: Sequence[str] = SERVICES
    """Packages that understand `python -m <package> serve` and `migrate`."""
    extra_env: Mapping[str, str] = field(default_factory=dict)
    """Added to the environment of every service and command."""
    ports: Mapping[str, int] = field(default_factory=dict)
    """Ports that are not to be chosen."""
    settings: LocalSettings = field(default_factory=LocalSettings)
    tell: Callable[[str], None] = _quiet
    """Gets a line for each step, end of a process and new start."""
    sink: bool = True
    """Whether the mail sink runs."""
    topics: bool = True
    """Whether the topics are created."""
