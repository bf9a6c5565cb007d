"""Settings of contacts: those that every service has."""

from __future__ import annotations

from rapport.settings import ServiceSettings


class Settings(ServiceSettings):
    """One frozen object, read once in `app.py`."""
