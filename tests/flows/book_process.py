"""The toy book in a process of its own, to be killed: settings come from the environment."""

from __future__ import annotations

from fastapi import APIRouter

from rapport.contracts.contacts import PurchaseRecorded
from rapport.service import Definition, run_main
from rapport.settings import ServiceSettings
from tests.flows.toys import enter


def define() -> Definition:
    """Return the book."""
    settings = ServiceSettings()
    return Definition("loyalty", settings, {PurchaseRecorded: enter}, APIRouter())


if __name__ == "__main__":
    run_main(define)
