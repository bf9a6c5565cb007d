"""`python -m notifications.sink --smtp-port 1025 --http-port 8025 --directory mails`."""

from __future__ import annotations

import argparse
import asyncio
import logging
from pathlib import Path

import uvloop

from notifications.sink.server import Place, run


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="notifications.sink", description="A local mail sink.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--smtp-port", type=int, default=1025)
    parser.add_argument("--http-port", type=int, default=8025)
    parser.add_argument("--directory", type=Path, required=True)
    given = parser.parse_args()
    # aiosmtpd logs addresses
    logging.basicConfig(level=logging.WARNING)
    place = Place(given.host, given.smtp_port, given.http_port, given.directory)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(place))


if __name__ == "__main__":
    main()
