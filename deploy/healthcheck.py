"""A container's health: what the service's own `/livez` says, which looks at loops and polls."""  # noqa: INP001

import os
import socket
import sys

TIMEOUT_SECONDS = 5


def ask(port: int, path: str) -> str:
    """Return the whole answer; asked by hand, because `http.client` takes longer to import."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        with connection.makefile("rb") as answer:
            return answer.read().decode(errors="replace")


def main() -> int:
    """Return 0 when the service says that it is alive."""
    path = os.environ.get("RAPPORT_HEALTH_PATH", "/livez")
    try:
        answer = ask(int(os.environ["RAPPORT_OPS_PORT"]), path)
    except OSError as error:
        sys.stdout.write(f"no answer: {error}")
        return 1
    sys.stdout.write(answer.partition("\r\n\r\n")[2])
    return int(" 200 " not in answer.partition("\r\n")[0])


if __name__ == "__main__":
    sys.exit(main())
