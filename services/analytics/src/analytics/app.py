"""Wiring of the analytics service."""

from __future__ import annotations

from analytics import api
from analytics.handlers import HANDLERS
from analytics.settings import Settings
from rapport.service import Definition, run_main

TABLES = (
    "fact",
    "waiting_refund",
    "profile",
    "kept_day",
    "revenue_day",
    "segment_member",
    "segment_crossing",
    "alias",
)


def define() -> Definition:
    """Say what the service is; settings are read here and nowhere else."""
    return Definition(
        name="analytics",
        settings=Settings(),
        handlers=HANDLERS,
        router=api.router,
        declared_tables=TABLES,
    )


def main() -> None:
    """Run `serve`, `worker` or `migrate`."""
    run_main(define)
