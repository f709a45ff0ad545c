"""A connection as bad as asked: what is put in comes out later, uncertainly, or not at all."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from real_robot.clock import ns

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong with a connection."""

    latency_s: float = 0.0
    jitter_s: float = 0.0  # added on top, drawn evenly from 0 to this
    dropped: float = 0.0  # share that never arrives


class Line(Generic[T]):
    """One direction of a connection: the newest arrival wins, and what it overtook is lost."""

    def __init__(self, random: np.random.Generator, trouble: Trouble | None = None):
        self.random, self.trouble = random, trouble or Trouble()
        self._under_way: deque[tuple[int, T]] = deque()  # (arrives, what), in the order of sending

    def put(self, item: T, now_ns: int) -> None:
        """Send something."""
        t = self.trouble
        if t.dropped and self.random.random() < t.dropped:
            return
        delay = t.latency_s + (t.jitter_s * self.random.random() if t.jitter_s else 0.0)
        self._under_way.append((now_ns + ns(delay), item))

    def take(self, now_ns: int) -> T | None:
        """Return the newest thing that has arrived since the last call, if any."""
        newest = max((i for i, (due, _) in enumerate(self._under_way) if due <= now_ns), default=-1)
        found = None
        for _ in range(newest + 1):
            found = self._under_way.popleft()[1]
        return found

    def clear(self) -> None:
        """Lose everything that is under way."""
        self._under_way.clear()
