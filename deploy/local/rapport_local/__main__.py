"""`python -m rapport_local`: up, down, logs, status, migrate, clean, demo."""

from __future__ import annotations

import sys

from rapport_local.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
