"""A thread for what may wait: the servo thread asks for it and goes on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

Work = Callable[[], None]


class Aside:
    """Does one thing after the other, and `idle` when there is nothing to do for `pause_s`."""

    def __init__(self, name: str, idle: Work = lambda: None, pause_s: float = 0.05):
        self.failed = ""  # what ended it
        self._idle, self._pause_s = idle, pause_s
        self._wanted: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        # A daemon: a vendor's call that never returns must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def do(self, work: Work) -> None:
        """Let it be done soon; never waits."""
        self._wanted.put(work)

    def close(self, timeout_s: float) -> bool:
        """End it after what it is doing; say whether it has ended."""
        self._wanted.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while True:
                try:
                    work = self._wanted.get(timeout=self._pause_s)
                except queue.Empty:
                    work = self._idle
                if work is None:
                    return
                work()
        except Exception as error:  # whatever a vendor raises: the driver says it on its next read
            self.failed = f"{type(error).__name__}: {error}"
