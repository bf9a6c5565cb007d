"""What the demo shows while it runs: a bar for each phase on a terminal, else a line."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

COLUMNS = (
    TextColumn("{task.description:<28}"),
    BarColumn(bar_width=36),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
    TextColumn("{task.fields[note]}"),
)
WIDE = 140


@dataclass
class Phase:
    """One bar: `done` moves it, `note` stands behind it."""

    progress: Progress
    task: TaskID

    def done(self, amount: int = 1) -> None:
        """Move the bar."""
        self.progress.advance(self.task, amount)

    def note(self, text: str) -> None:
        """Say what is going on."""
        self.progress.update(self.task, note=text)


class Display:
    """Writes to one console."""

    def __init__(self, console: Console | None = None) -> None:
        """Take a console, or the terminal's; in a file lines may be wide."""
        width = None if sys.stdout.isatty() else WIDE
        self.console = console or Console(highlight=False, width=width)

    def say(self, line: str) -> None:
        """Print a line."""
        self.console.print(line, markup=False, soft_wrap=True)

    @contextmanager
    def phase(self, title: str, total: int) -> Iterator[Phase]:
        """Show a bar while the block runs, and how long it took at its end."""
        begun = time.monotonic()
        if not self.console.is_terminal:
            self.say(f"{title}: {total:,} …")
        with Progress(*COLUMNS, console=self.console, transient=True) as progress:
            progress.disable = not self.console.is_terminal
            yield Phase(progress, progress.add_task(title, total=total, note=""))
        self.say(f"{title}: {total:,} in {time.monotonic() - begun:,.1f} s")
