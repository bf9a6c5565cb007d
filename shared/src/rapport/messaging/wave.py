"""Cuts a batch into waves: lists that a handler may take in one go without changing the result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from uuid import UUID


class Ordered(Protocol):
    """Something of a kind that concerns contacts."""

    @property
    def kind(self) -> str:
        """What decides which handler takes it."""
        ...

    @property
    def canonical(self) -> tuple[UUID, ...]:
        """Its contacts, by canonical id."""
        ...


T = TypeVar("T", bound=Ordered)


@dataclass(slots=True)
class Wave(Generic[T]):
    """Lists per kind that touch each contact once, or by one kind that takes several."""

    by_kind: dict[str, list[T]] = field(default_factory=dict)


def cut(items: Iterable[T], takes_several: Callable[[str], bool]) -> list[Wave[T]]:
    """Put each item into the first wave after the last one that touches its contacts.

    It may join that wave when its kind takes several per contact and the contact was last touched
    there by the same kind. Order per contact is kept; order between contacts is not promised.
    """
    waves: list[Wave[T]] = []
    last: dict[UUID, tuple[int, str]] = {}
    for item in items:
        kind = item.kind
        several = takes_several(kind)
        index = 0
        for contact in item.canonical:
            seen = last.get(contact)
            if seen is not None:
                at, before = seen
                index = max(index, at if several and before == kind else at + 1)
        while len(waves) <= index:
            waves.append(Wave())
        waves[index].by_kind.setdefault(kind, []).append(item)
        for contact in item.canonical:
            last[contact] = (index, kind)
    return waves
