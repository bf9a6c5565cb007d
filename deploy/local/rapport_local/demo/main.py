"""`make demo`: real purchases go through the suite, and every total is checked."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import httpx

from rapport.opsclient import OpsClient, RefusedError, UnreachableError
from rapport.reconciling import reconcile
from rapport.settling import ClockError, NotSettledError, settle
from rapport_local.demo.access import Access
from rapport_local.demo.calendar import LAST_DAY, list_last_days
from rapport_local.demo.check import check_events, check_mails, check_totals, list_differences
from rapport_local.demo.composed import MOST_REPLICAS, Project, composed
from rapport_local.demo.count import count
from rapport_local.demo.dataset import FILE, Purchase, read_purchases
from rapport_local.demo.display import Display
from rapport_local.demo.figures import measure_latency
from rapport_local.demo.journey import choose, follow_purchase, list_lines
from rapport_local.demo.keeping import running_state, start_detached
from rapport_local.demo.life import Life, Lived
from rapport_local.demo.report import Reading, Report, print_report
from rapport_local.errors import LocalRuntimeError
from rapport_local.folder import CopyFolder
from rapport_local.plan import USUAL_PORTS
from rapport_local.ports import is_free
from rapport_local.settings import LocalSettings
from rapport_local.shape import SERVICES
from rapport_local.supervisor import Runtime

NAME = "demo"


@dataclass(frozen=True)
class Options:
    """The command line."""

    name: str
    scale: int
    refunds: bool
    replicas: int
    keep: bool
    into: str
    check: str
    report: Path | None
    until: date
    compose: bool


def parse(argv: Sequence[str]) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write a report")
    parser.add_argument("--keep", action="store_true", help="leave it running; `make down` ends it")
    parser.add_argument("--scale", type=int, default=1, metavar="N", help="one customer in N")
    parser.add_argument("--no-refunds", action="store_true", help="without the made-up refunds")
    parser.add_argument("--replicas", type=int, default=1, help="processes of each service")
    parser.add_argument("--name", default=NAME, help="of the copy; several run side by side")
    parser.add_argument("--into", default="", metavar="NAME", help="publish again into a kept copy")
    parser.add_argument("--check", default="", metavar="NAME", help="only compare a kept copy")
    parser.add_argument(
        "--compose", action="store_true", help="in containers (deploy/compose.yaml)"
    )
    parser.add_argument(
        "--until", type=date.fromisoformat, default=LAST_DAY, metavar="DATE", help="its last day"
    )
    given = parser.parse_args(argv)
    if given.until not in list_last_days():
        parser.error("--until wants a day up to 1998-03-31, or the last one of a later week")
    if given.scale < 1 or given.replicas < 1:
        parser.error("--scale and --replicas want at least 1")
    if given.compose and (given.into or given.check or given.replicas > MOST_REPLICAS):
        parser.error("--compose goes with one or two replicas, and not with --into or --check")
    return Options(
        given.name,
        given.scale,
        not given.no_refunds,
        given.replicas,
        given.keep,
        given.into,
        given.check,
        given.json,
        given.until,
        given.compose,
    )


def run(argv: Sequence[str]) -> int:
    """Run the demo; 0 only if all totals agree."""
    options = parse(argv)
    display = Display()
    begun = time.monotonic()
    try:
        with _copy(options, display) as access:
            demo = Demo(options, access, display)
            report = asyncio.run(demo.run())
            report.seconds = time.monotonic() - begun
            if options.report:
                report.write(options.report)
            print_report(report, display.console)
            display.say(f"{report.seconds:,.1f} s in all")
    except NotSettledError as error:
        raise LocalRuntimeError(f"not settled: {error}") from error
    except (UnreachableError, RefusedError, ClockError, httpx.HTTPError) as error:
        raise LocalRuntimeError(str(error)) from error
    return 0 if report.agrees else 1


@contextmanager
def _copy(options: Options, display: Display) -> Iterator[Access]:
    """Give a running copy: a kept one, a new one that stays, or a new one that ends with us."""
    if options.into or options.check:
        yield Access(running_state(options.into or options.check))
        return
    if options.compose:
        project = Project(f"rapport-{options.name}", options.replicas)
        with composed(project, display, keep=options.keep) as access:
            yield access
        return
    _forget(options.name)
    usual = USUAL_PORTS if options.name == NAME else {}
    ports = {name: port for name, port in usual.items() if is_free(port)}
    if options.keep:
        display.say(f"starting the copy '{options.name}', which stays")
        access = Access(start_detached(options.name, options.replicas, ports))
        yield access
        where = ", ".join(f"{service} {access.api(service)}" for service in SERVICES)
        display.say(f"it runs on: {where}, mails {access.sink}")
        display.say(f"`make down ARGS='--name {options.name}'` ends it")
        return
    runtime = Runtime(
        options.name,
        clock="simulated",
        replicas=options.replicas,
        ports=ports,
        tell=display.say,
    )
    with runtime:
        yield Access(runtime.state())
        display.say("stopping")
    runtime.remove()


def _forget(name: str) -> None:
    """Delete what an earlier demo left; refuse a running one."""
    folder = CopyFolder(LocalSettings().folder, name)
    folder.lock()
    folder.unlock()
    folder.remove()


class Demo:
    """One run against one copy."""

    def __init__(self, options: Options, access: Access, display: Display) -> None:
        """Say what to do, where, and where to show it."""
        self._options = options
        self._access = access
        self._display = display
        self.life = Life(access, display, self.read, options.until)
        self._report = Report(
            {"scale": options.scale, "refunds": options.refunds, "replicas": options.replicas}
        )

    async def run(self) -> Report:
        """Live, or publish again, or only look; then compare and measure."""
        options = self._options
        purchases = read_purchases(FILE, options.scale)
        if options.into:
            await self.life.again(purchases, refunds=options.refunds)
            await self.read(options.until)
        elif options.check:
            await settle(self._access.ops)
            await self.read(options.until)
        else:
            self._report.lived = await self.life.live(purchases, refunds=options.refunds)
        await self._measure(purchases, self.life.lived)
        return self._report

    async def read(self, day: date) -> None:
        """Read every total and compare it with the independent count, as of the end of a day."""
        options = self._options
        counted = await asyncio.to_thread(
            count, FILE, day, scale=options.scale, refunds=options.refunds
        )
        totals = await self._access.totals()
        mails = await self._access.ask(f"{self._access.sink}/count")
        async with OpsClient(self._access.ops, timeout_seconds=60) as ops:
            reconciliation = await reconcile(ops)
        checks = [
            *check_totals(counted, totals),
            *check_mails(counted, mails),
            *check_events(counted, reconciliation),
        ]
        differences = list_differences(checks, reconciliation)
        self._report.readings.append(
            Reading(day, totals, mails, reconciliation, checks, differences)
        )
        verdict = f"{len(differences)} differences" if differences else "all agree"
        self._display.say(f"{len(checks)} totals at the end of {day}: {verdict}")

    async def _measure(self, purchases: Sequence[Purchase], lived: Lived) -> None:
        report, access = self._report, self._access
        fit = f"{access.api('analytics')}/v1/metrics/bgnbd"
        answer = await access.ask(fit, params={"as_of": self._options.until.isoformat()})
        values = answer["values"] or {}
        report.bgnbd = {name: values[name] for name in ("r", "alpha", "a", "b") if name in values}
        if lived.live_since:
            report.latency = await measure_latency(access, lived.live_since)
        report.memory_mb = access.memory_mb()
        purchase = choose([p for p in purchases if p.on <= self._options.until])
        if purchase:
            dollars = purchase.net_minor / 100
            report.journey_of = f"order {purchase.order}, {purchase.on}, {dollars:,.2f} USD"
            report.journey = list_lines(await follow_purchase(access, purchase))
