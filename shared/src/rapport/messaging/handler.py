"""Handlers, timer handlers, and what they declare about themselves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

from rapport.contracts.base import Event
from rapport.messaging.delivery import Delivery, TimerDue
from rapport.messaging.transaction import Tx

Handler = Callable[[Sequence[Delivery[Any]], Tx], Awaitable[None]]
TimerHandler = Callable[[Sequence[TimerDue], Tx], Awaitable[None]]
Finder = Callable[[Sequence[Delivery[Any]], Tx], Awaitable[set[UUID]]]
Handlers = Mapping[type[Event], Handler]
TimerHandlers = Mapping[str, TimerHandler]

F = TypeVar("F", bound=Callable[..., Any])


def several_per_contact(handler: F) -> F:
    """Declare that the handler's list may hold several events of one contact, in order.

    Without it the runner cuts a batch into waves with at most one event per contact.
    """
    handler.several_per_contact = True  # type: ignore[attr-defined]  # functions take attributes
    return handler


def touches(finder: Finder) -> Callable[[F], F]:
    """Declare that the handler writes to further contacts, which `finder` names.

    The finder runs before the locks and again after them; another answer starts the transaction
    again.
    """

    def declare(handler: F) -> F:
        handler.touches = finder  # type: ignore[attr-defined]  # functions take attributes
        return handler

    return declare


def takes_several(handler: Handler) -> bool:
    """Tell whether `several_per_contact` was declared."""
    return getattr(handler, "several_per_contact", False)


def finder_of(handler: Handler) -> Finder | None:
    """Return what `touches` declared, if anything."""
    return getattr(handler, "touches", None)
