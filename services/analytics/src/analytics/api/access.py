"""What a request needs of the running service."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request

from analytics.settings import Settings
from rapport.service import Service


def _service(request: Request) -> Service:
    return cast("Service", request.app.state.service)


def _settings(request: Request) -> Settings:
    return cast("Settings", _service(request).settings)


RunningService = Annotated[Service, Depends(_service)]
ServiceSettings = Annotated[Settings, Depends(_settings)]
