"""Becomes another program that cannot outlive its parent; run as a script, outside any package.

    python -I -S launch.py PARENT DEATH_SIGNAL UID GID PROGRAM [ARGUMENT...]

A preexec_fn would do the same inside a process that has threads, where it can dead-lock. UID and
GID of -1 mean "as we are". The death signal must be asked for after the uid changed: Linux forgets
it then.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Drop privileges, ask for the death signal, and become the program."""
    parent, death_signal, uid, gid = (int(argument) for argument in arguments[:4])
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal)
        if os.getppid() != parent:  # it died before we could ask
            os.kill(os.getpid(), signal.SIGKILL)
    os.execv(arguments[4], arguments[4:])  # noqa: S606 - the program is ours, and no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
