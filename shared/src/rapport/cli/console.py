"""What commands print: tables for people, JSON for scripts."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

import msgspec
import typer
from rich.console import Console, RenderableType
from rich.table import Table

WIDE = 200
"""Columns where nobody has a window: in a file or a pipe."""

out = Console(soft_wrap=True, width=None if sys.stdout.isatty() else WIDE)
err = Console(stderr=True, soft_wrap=True)


def print_json(value: object) -> None:
    """Print a value as indented JSON on standard output, without colours or wrapping."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=2)
    sys.stdout.write(text.decode() + "\n")


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under headings; numbers stand right."""
    listed = [list(row) for row in rows]
    table = Table(title=title, title_justify="left", header_style="bold")
    for index, column in enumerate(columns):
        numbers = bool(listed) and all(isinstance(row[index], int | float) for row in listed)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in listed:
        table.add_row(*map(cell, row))
    show(table)


def show(renderable: RenderableType) -> None:
    """Print a table or tree, folded at the edge of a terminal."""
    out.print(renderable, highlight=False, soft_wrap=False, width=None if out.is_terminal else WIDE)


def cell(value: object) -> str:
    """Return a value as the text of a cell."""
    if value is None:
        return "-"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def fail(message: str, code: int = 1) -> NoReturn:
    """Print one line on standard error and end with an exit code."""
    err.print(f"rapport: {message}", markup=False, highlight=False)
    raise typer.Exit(code)
