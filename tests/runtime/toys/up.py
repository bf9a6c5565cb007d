"""`python up.py NAME`: the real `up` command, with the toy instead of the four services."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from unittest.mock import patch

from rapport_local import cli
from rapport_local.supervisor import Runtime

if __name__ == "__main__":
    toy = functools.partial(
        Runtime,
        services=("toy",),
        sink=False,
        topics=False,
        extra_env={"PYTHONPATH": str(Path(__file__).parent)},
    )
    with patch.object(cli, "Runtime", toy):
        sys.exit(cli.main(["up", "--name", sys.argv[1], *sys.argv[2:]]))
