"""A container's health: what the service's own `/livez` says, which looks at loops and polls."""  # noqa: INP001

import http.client
import os
import sys

TIMEOUT_SECONDS = 5


def main() -> int:
    """Return 0 when the service says that it is alive."""
    connection = http.client.HTTPConnection(
        "127.0.0.1", int(os.environ["RAPPORT_OPS_PORT"]), timeout=TIMEOUT_SECONDS
    )
    try:
        connection.request("GET", os.environ.get("RAPPORT_HEALTH_PATH", "/livez"))
        answer = connection.getresponse()
        sys.stdout.write(answer.read().decode(errors="replace"))
    except OSError as error:
        sys.stdout.write(f"no answer: {error}")
        return 1
    return int(answer.status != http.HTTPStatus.OK)


if __name__ == "__main__":
    sys.exit(main())
