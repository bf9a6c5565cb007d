"""A person as we know them, and what a change to the record means."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import cache
from typing import TYPE_CHECKING, Any
from zoneinfo import available_timezones

from contacts.domain.refusal import RefusedError
from rapport.contracts.contacts import ContactRegistered, ContactUpdated, Reference

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

DETAILS = (
    "given_name",
    "family_name",
    "email",
    "phone",
    "birth_date",
    "language",
    "zone",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """The record; `references` are (system, number) pairs, sorted."""

    id: UUID
    registered_at: datetime
    provisional: bool = False
    given_name: str | None = None
    family_name: str | None = None
    email: str | None = None
    phone: str | None = None
    birth_date: date | None = None
    language: str | None = None
    zone: str | None = None
    references: tuple[tuple[str, str], ...] = ()
    version: int = 1

    def revised(
        self, details: Mapping[str, Any], *, completes: bool = False
    ) -> tuple[Contact, tuple[str, ...]]:
        """Return the record with `details`, and the names of the fields that changed.

        `completes` ends the provisional state, which counts as a field. Without a change the
        record is returned as it stands, version included.
        """
        new = {name: details[name] for name in DETAILS if name in details}
        if completes:
            new["provisional"] = False
        changed = tuple(name for name, value in new.items() if getattr(self, name) != value)
        if not changed:
            return self, ()
        return replace(self, **new, version=self.version + 1), changed

    def _state(self) -> dict[str, Any]:
        return {
            "contact_id": self.id,
            "provisional": self.provisional,
            "given_name": self.given_name,
            "family_name": self.family_name,
            "email": self.email,
            "phone": self.phone,
            "birth_date": self.birth_date.isoformat() if self.birth_date else None,
            "language": self.language,
            "zone": self.zone,
            "references": tuple(Reference(system=s, number=n) for s, n in self.references),
            "registered_at": self.registered_at,
            "version": self.version,
        }

    def registered(self) -> ContactRegistered:
        """Return the event of a record that became known."""
        return ContactRegistered(**self._state())

    def updated(self, changed: tuple[str, ...]) -> ContactUpdated:
        """Return the event of a record that changed."""
        return ContactUpdated(**self._state(), changed=changed)


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def check_zone(name: str | None) -> None:
    """Refuse a zone that the time zone database does not know; timers are counted in it."""
    if name is not None and name not in _zones():
        raise RefusedError("zone", "is no IANA time zone")
