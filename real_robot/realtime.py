"""Ask the system for what a loop on time needs; say in one line each whether it was given."""

from __future__ import annotations

import ctypes
import os

CURRENT, FUTURE = 1, 2  # of mlockall(2)


def lock_memory() -> str:
    """Keep this process in memory: a page that has to be fetched takes milliseconds."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(CURRENT | FUTURE) == 0:
        return "memory is locked"
    why = os.strerror(ctypes.get_errno())
    return f"memory is not locked ({why}): raise memlock in /etc/security/limits.conf"


def go_first(priority: int) -> str:
    """Let this thread run before all ordinary ones; threads that it starts stay ordinary."""
    policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
    try:
        os.sched_setscheduler(0, policy, os.sched_param(priority))
    except OSError as error:
        return f"scheduled like others ({error.strerror}): raise rtprio in /etc/security/limits.conf"  # noqa: E501  # fmt: skip
    return f"scheduled first (SCHED_FIFO {priority})"
