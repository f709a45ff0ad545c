"""Processes that want a whole core each, for what has to be on time beside them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# It ends with who started it, even where that is killed.
HOG = "import os, sys\nwhile os.getppid() == int(sys.argv[1]):\n    sum(range(100_000))"


@contextmanager
def hogs(count: int) -> Iterator[None]:
    """Keep so many busy processes."""
    running = [
        subprocess.Popen([sys.executable, "-c", HOG, str(os.getpid())]) for _ in range(count)
    ]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()
