"""Wiring of the loyalty service."""

from loyalty import api
from loyalty.handlers import HANDLERS, TIMERS
from loyalty.handlers.timers import later
from loyalty.settings import Settings
from rapport.service import Definition, run_main

TABLES = (
    *("member", "earning", "lot", "journal", "journal_line", "debt", "refund", "waiting_refund"),
    *("redemption", "redemption_lot", "capped_line"),
)


def define() -> Definition:
    """Describe the service; reads the settings."""
    return Definition(
        name="loyalty",
        settings=Settings(),
        handlers=HANDLERS,
        timers=TIMERS,
        router=api.router,
        declared_tables=TABLES,
        later=later,
    )


def main() -> None:
    """Run the service: `serve`, `worker` or `migrate`."""
    run_main(define)
