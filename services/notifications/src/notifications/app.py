"""Wires the notifications service together."""

from __future__ import annotations

from notifications import mailer
from notifications.api import router
from notifications.handlers import HANDLERS
from notifications.settings import Settings
from notifications.store import totals
from rapport.service import Definition, run_main


def define() -> Definition:
    """Return what the service is made of; reads the environment."""
    return Definition(
        name="notifications",
        settings=Settings(),
        handlers=HANDLERS,
        router=router,
        pending=totals.count_pending,
        next_due=totals.find_next_due,
        leader_workers=(mailer.run,),
        declared_tables=("message", "recipient", "consent", "preference"),
        later=mailer.later,
    )


def main() -> None:
    """Run `serve`, `worker` or `migrate`."""
    run_main(define)
