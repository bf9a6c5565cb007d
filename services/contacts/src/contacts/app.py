"""Wiring of the contacts service."""

from __future__ import annotations

from functools import partial
from zoneinfo import ZoneInfo

from contacts.api import router
from contacts.handlers import HANDLERS, anniversary, inbound
from contacts.settings import Settings
from rapport.service import Definition, run_main

TABLES = (
    *("source", "reference", "contact", "consent", "purchase", "purchase_line", "refund"),
    *("refund_line", "waiting_refund", "anniversary", "timeline"),
)


def define() -> Definition:
    """Read the settings and name the parts."""
    settings = Settings()
    zone = ZoneInfo(settings.zone)
    return Definition(
        name="contacts",
        settings=settings,
        handlers=HANDLERS,
        router=router,
        timers=anniversary.timers(zone),
        accept=partial(inbound.accept, zone=zone),
        declared_tables=TABLES,
    )


def main() -> None:
    """Run `serve`, `worker` or `migrate`."""
    run_main(define)
