"""Ask the system for what a loop on time needs; say in one line each whether it was given."""

from __future__ import annotations

import ctypes
import os
import threading

import zmq

CURRENT, FUTURE = 1, 2  # of mlockall(2)
AFTER = 1  # the lowest priority that is before all ordinary ones


def lock_memory() -> str:
    """Keep this process in memory: a page that has to be fetched takes milliseconds."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(CURRENT | FUTURE) == 0:
        return "memory is locked"
    why = os.strerror(ctypes.get_errno())
    return f"memory is not locked ({why}): raise memlock in /etc/security/limits.conf"


def may_go_first(priority: int) -> bool:
    """Say whether the system allows that: whoever schedules for us may end us where it does not."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except OSError:
        return False
    os.sched_setscheduler(0, *before)
    return True


def go_first(priority: int) -> str:
    """Let this thread run before all ordinary ones; threads that it starts stay ordinary.

    Other threads of Python that run already come right after it: one that ordinary processes keep
    from running may hold the interpreter, and this thread would wait with it.
    """
    policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
    try:
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and thread.native_id is not None:
                os.sched_setscheduler(thread.native_id, policy, os.sched_param(AFTER))
        os.sched_setscheduler(0, policy, os.sched_param(priority))
    except OSError as error:
        return f"scheduled like others ({error.strerror}): raise rtprio in /etc/security/limits.conf"  # noqa: E501  # fmt: skip
    return f"scheduled first (SCHED_FIFO {priority})"


def context_first(priority: int) -> zmq.Context:
    """Return a context whose thread runs before ordinary ones, like the loop that it serves.

    On a busy machine what comes and goes waits there for a processor, until a watchdog stops the
    arm. Where the system does not allow it, the thread is an ordinary one.
    """
    context = zmq.Context()
    if may_go_first(priority):
        context.set(zmq.THREAD_SCHED_POLICY, os.SCHED_FIFO)
        context.set(zmq.THREAD_PRIORITY, priority)
    return context
