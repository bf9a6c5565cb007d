"""The smallest service that the runtime can run: `python -m toy serve|migrate`."""

from __future__ import annotations

import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Ops(BaseHTTPRequestHandler):
    """Is always live and ready, and says who it is."""

    def do_GET(self) -> None:
        """Answer with the instance and the clock."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{os.environ['RAPPORT_INSTANCE']} {os.environ['RAPPORT_CLOCK']}".encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Stay silent."""


if __name__ == "__main__":
    if sys.argv[1] == "migrate":
        print("migrated", os.environ["RAPPORT_DATABASE_DSN"])  # noqa: T201
    else:
        address = (os.environ["RAPPORT_BIND"], int(os.environ["RAPPORT_OPS_PORT"]))
        ThreadingHTTPServer(address, Ops).serve_forever()
