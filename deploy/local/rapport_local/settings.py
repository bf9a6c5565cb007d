"""Settings of the embedded runtime; the only place of it that reads the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

CHECKOUT = Path(__file__).resolve().parents[3]


class LocalSettings(BaseSettings):
    """What a developer can change about a copy, by variables that begin with `RAPPORT_LOCAL_`."""

    model_config = SettingsConfigDict(env_prefix="RAPPORT_LOCAL_", frozen=True)

    folder: Path = CHECKOUT / ".rapport"
    """Holds one folder per copy: state file, logs, and the data or a link to them."""
    cache: Path | None = None
    """Where Kafka's jars are kept for all copies; by default below the user's cache folder."""
    ports: Annotated[dict[str, int], NoDecode] = Field(default_factory=dict)
    """Fixed ports, as `postgres=15433,kafka=19192`; the others are the usual ones, or free ones."""
    minimum_free_mb: int = 1024
    """A copy does not start when the disk has less room than this."""
    maven_repository: str = ""
    """A Maven repository to fetch Kafka from; empty means the public one."""

    @field_validator("ports", mode="before")
    @classmethod
    def _split_ports(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return dict(item.split("=", 1) for item in value.replace(" ", "").split(",") if item)

    @property
    def cache_folder(self) -> Path:
        """The folder for what is fetched once and shared by all copies."""
        if self.cache:
            return self.cache
        base = os.environ.get("XDG_CACHE_HOME")
        return (Path(base) if base else Path.home() / ".cache") / "rapport"


def inherited_environment() -> dict[str, str]:
    """Return the environment that every started process begins with: ours."""
    return dict(os.environ)


def trust_certificates() -> None:
    """Let `requests` trust the bundle that the user named for any other tool."""
    bundles = (os.environ.get(name) for name in ("SSL_CERT_FILE", "PIP_CERT", "CURL_CA_BUNDLE"))
    bundle = next((bundle for bundle in bundles if bundle), None)
    if bundle:
        os.environ.setdefault("REQUESTS_CA_BUNDLE", bundle)
