"""Settings of the notifications service."""

from __future__ import annotations

from pydantic import Field

from rapport.settings import ServiceSettings


class Settings(ServiceSettings):
    """Adds the mail server, and where the provider can be asked what it accepted."""

    smtp_host: str = "127.0.0.1"
    smtp_port: int = Field(default=1025, ge=1, le=65535)
    smtp_connections: int = Field(default=4, ge=1, le=64)
    mail_batch_size: int = Field(default=100, ge=1, le=1000)
    sink_url: str | None = None
    mail_from: str = "shop@rapport.example"
    public_url: str = "https://rapport.example"
