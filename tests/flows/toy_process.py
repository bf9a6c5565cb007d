"""A toy service in a process of its own: measured, frozen, killed by tests.

`TOY_SERVICE` names it; with `TOY_FREEZE` it stops itself inside the transaction of the order
`freeze`, holding its position and key locks.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import APIRouter

from rapport.contracts.contacts import PurchaseRecorded
from rapport.messaging.delivery import Delivery
from rapport.messaging.handler import several_per_contact
from rapport.service import Definition, run_main
from rapport.settings import ServiceSettings
from tests.flows.toys import Toys, enter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rapport.messaging.handler import Handlers
    from rapport.messaging.transaction import Tx

ROOT = Path(__file__).parents[2]
FREEZE = "freeze"


@several_per_contact
async def enter_or_freeze(purchases: Sequence[Delivery[PurchaseRecorded]], tx: Tx) -> None:
    """Enter each purchase; stop the whole process in the middle when one asks for it."""
    await enter(purchases, tx)
    if any(p.event.order == FREEZE for p in purchases):
        os.kill(os.getpid(), signal.SIGSTOP)


def define() -> Definition:
    """Read the environment."""
    name = os.environ["TOY_SERVICE"]
    handler = enter_or_freeze if os.environ.get("TOY_FREEZE") else enter
    handlers: Handlers = {PurchaseRecorded: handler} if name != "contacts" else {}
    return Definition(name, ServiceSettings(), handlers, APIRouter())


class ToyProcess:
    """Starts, measures and ends such a process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, toys: Toys, service: str, **more: str) -> ToyProcess:
        """Start it on the toys' databases; `more` are further variables."""
        settings = (await toys.define(service, {})).settings
        values = {f"RAPPORT_{k.upper()}": str(v) for k, v in settings if v is not None}
        path = os.pathsep.join(
            [str(ROOT), str(ROOT / "deploy/local"), os.environ.get("PYTHONPATH", "")]
        )
        environment = os.environ | values | {"TOY_SERVICE": service, "PYTHONPATH": path} | more
        log = await asyncio.to_thread(
            (ROOT / f".rapport/toy-{toys.prefix}-{service}.log").open, "ab"
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.flows.toy_process",
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
        )
        log.close()
        return cls(process)

    def is_frozen(self) -> bool:
        """Tell whether it is stopped by a signal."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8")
        return stat.rpartition(")")[2].split()[0] == "T"

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    async def stop(self) -> int:
        """End it as a supervisor does, and return its exit code."""
        if self.process.returncode is None:
            self.send(signal.SIGCONT)
            self.send(signal.SIGTERM)
            try:
                await asyncio.wait_for(self.process.wait(), 30)
            except TimeoutError:
                self.process.kill()
        return await self.process.wait()


if __name__ == "__main__":
    run_main(define)
