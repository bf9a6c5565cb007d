"""What can go wrong, said in one line."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class LocalRuntimeError(Exception):
    """Something that the user can mend; its text is one line and needs no traceback."""


def disk_full(path: Path) -> LocalRuntimeError:
    """Return the error for a file system that has no room left."""
    return LocalRuntimeError(f"the disk that holds {path} is full; free some space and start again")


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk or a forbidden folder, met while writing `path`, into one clear line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(path) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise LocalRuntimeError(
                f"cannot write {error.filename or path}: {error.strerror}"
            ) from error
        raise


def last_lines(text: str, lines: int = 3) -> str:
    """Return the last non-empty lines of a program's output on one line, for an error."""
    kept = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(kept[-lines:]) or "no output"


def log_tail(path: Path) -> str:
    """Return the end of a log on one line."""
    try:
        return last_lines(path.read_text(errors="replace"))
    except OSError:
        return "no log"


def says_disk_full(text: str) -> bool:
    """Tell whether a program's output complains about a full disk."""
    return "No space left on device" in text or "Disk quota exceeded" in text
