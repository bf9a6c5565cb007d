"""Settings that every service shares; read once, in `app.py`, from `RAPPORT_*` variables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "RAPPORT_"
SHIPPED_SECRET = "development-only"  # noqa: S105  a mark, no password
"""In every secret that comes with the source; refused outside development."""


class ServiceSettings(BaseSettings):
    """One frozen object per process. Every field can come from a file: `RAPPORT_<FIELD>_FILE`."""

    # What is refused is not shown: it may be a secret.
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True
    )

    environment: Literal["development", "production"]
    database_dsn: str
    kafka_bootstrap: str
    bind: str = "127.0.0.1"
    port: int = Field(ge=0, le=65535)
    ops_port: int = Field(ge=0, le=65535)
    instance: str | None = None
    partitions: int = Field(default=6, ge=1, le=1024)
    replication_factor: int = Field(default=1, ge=1)
    clock: Literal["real", "simulated"] = "real"
    zone: str = "Europe/Prague"
    batch_size: int = Field(default=500, ge=1, le=10_000)
    queue_size: int = Field(default=500, ge=1)
    lease_seconds: float = Field(default=10.0, gt=0)
    retention_days: int = Field(default=14, ge=1)
    pool_size: int = Field(default=10, ge=4)
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @model_validator(mode="before")
    @classmethod
    def _from_files(cls, values: dict[str, Any]) -> dict[str, Any]:
        for field in cls.model_fields:
            path = os.environ.get(f"{PREFIX}{field.upper()}_FILE")
            if path and field not in values:
                values[field] = Path(path).read_text(encoding="utf-8").strip()
        return values

    @model_validator(mode="after")
    def _consistent(self) -> ServiceSettings:
        ZoneInfo(self.zone)
        if self.clock == "simulated" and self.environment == "production":
            msg = "clock: a simulated clock is refused in production"
            raise ValueError(msg)
        if self.environment != "development" and SHIPPED_SECRET in self.database_dsn:
            msg = "database_dsn: a password that is shipped with the source is for development only"
            raise ValueError(msg)
        return self
