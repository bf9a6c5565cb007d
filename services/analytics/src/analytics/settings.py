"""Settings of the analytics service: the common ones, and the limit of a model's fit."""

from __future__ import annotations

from pydantic import Field

from rapport.settings import ServiceSettings


class Settings(ServiceSettings):
    """Zone and reporting currency are versioned data (table `reporting`), not settings."""

    fit_seconds: float = Field(default=60.0, gt=0)
