"""Time that can be given: the machine's monotonic one, or one that a test moves by hand."""

from __future__ import annotations

import time
from typing import Protocol

SECOND = 1_000_000_000  # ns


class Clock(Protocol):
    """Nanoseconds that only go forward; never the wall clock, which people and NTP set."""

    def now_ns(self) -> int:
        """Return the time."""

    def sleep_until_ns(self, moment: int) -> int:
        """Wait for a moment; return how late it became, in ns (0 or more)."""


class MonotonicClock:
    """The machine's own."""

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def sleep_until_ns(self, moment: int) -> int:
        # To an absolute moment, so that lateness of one tick is not handed on to the next.
        while (left := moment - time.monotonic_ns()) > 0:
            time.sleep(left / SECOND)
        return time.monotonic_ns() - moment


class VirtualClock:
    """Stands still until it is told: timing rules can be tested to the nanosecond."""

    def __init__(self, now_ns: int = 0):
        self._now = now_ns

    def now_ns(self) -> int:
        return self._now

    def sleep_until_ns(self, moment: int) -> int:
        late = max(0, self._now - moment)
        self._now = max(self._now, moment)
        return late

    def advance(self, ns: int) -> None:
        """Let time pass."""
        if ns < 0:
            raise ValueError(f"time goes forward only, not by {ns} ns")
        self._now += ns


def ns(seconds: float) -> int:
    """Return a duration in whole nanoseconds."""
    return round(seconds * SECOND)
