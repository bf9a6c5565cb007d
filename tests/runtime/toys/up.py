"""`python up.py NAME`: the real `up` command, with the toy instead of the four services."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

from rapport_local import cli
from rapport_local.supervisor import Runtime

if __name__ == "__main__":
    cli.Runtime = functools.partial(  # type: ignore[misc,assignment] # the command is what is tested
        Runtime,
        services=("toy",),
        sink=False,
        topics=False,
        extra_env={"PYTHONPATH": str(Path(__file__).parent)},
    )
    sys.exit(cli.main(["up", "--name", sys.argv[1], *sys.argv[2:]]))
