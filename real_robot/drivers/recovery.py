"""While an arm recovers from an acknowledged fault, that fault is no news."""

from __future__ import annotations

import time

LONGEST_S = 10.0
SETTLES_S = 1.0  # states that were on their way


class Recovery:
    """Between the operator's acknowledgement and its outcome, for at most LONGEST_S."""

    def __init__(self) -> None:
        self._until: float | None = None
        self._done = False

    @property
    def running(self) -> bool:
        return self._until is not None

    def begin(self) -> None:
        self._until, self._done = time.monotonic() + LONGEST_S, False

    def done(self) -> None:
        """The arm says that it has recovered; its next states will show it."""
        if self._until is not None:
            self._until, self._done = min(self._until, time.monotonic() + SETTLES_S), True

    def failed(self) -> None:
        """The fault is news again."""
        self._until = None

    def heard(self, fault: str) -> str:
        """Return what of a fault is news."""
        if self._until is None:
            return fault
        if self._done and not fault:
            self._until = None
        elif time.monotonic() > self._until:
            self._until = None
            return fault or "the arm has not said that it recovered"
        return ""
