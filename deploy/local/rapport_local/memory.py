"""How much memory a process takes."""

from __future__ import annotations

import psutil


def memory_mb(pid: int) -> float:
    """Return the resident memory of a process and its children, in MB of 10^6 bytes."""
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
        if len(family) == 1:
            return float(root.memory_info().rss) / 1e6
        # The processes of Postgres share their buffers: the proportional size counts them once.
        return sum(float(getattr(p.memory_full_info(), "pss", 0)) for p in family) / 1e6
    except psutil.Error:
        return 0.0
