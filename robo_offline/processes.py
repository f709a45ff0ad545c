"""Child processes: one thread each, signals left to the parent, and never outliving it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # Linux: the signal a process gets when its parent dies


def become_worker() -> None:
    """Prepare a child process; call it first thing there."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent saves, then ends its children
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
