"""A source that goes wrong when it is told to, for tests of what relies on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from real_robot.cameras.camera import Frame, TimedSource
from real_robot.clock import Clock

Span = tuple[int, int]  # from, and before: ns after the source was opened


@dataclass(frozen=True)
class Plan:
    """What goes wrong, and when."""

    freeze: Sequence[Span] = ()  # the last picture again and again, as a stuck buffer gives it
    black: Sequence[Span] = ()  # pictures that are new, and dark
    drop: Sequence[Span] = ()  # no pictures
    delay: Sequence[Span] = ()  # pictures arrive late ...
    delay_ns: int = 0  # ... by this
    death_ns: int | None = None  # unplugged


class Faulty:
    """Another source, and its plan."""

    def __init__(self, source: TimedSource, plan: Plan, clock: Clock):
        self.source, self.plan, self.clock, self.spec = source, plan, clock, source.spec
        self._opened = self._arrived = 0
        self._last: Frame | None = None

    def open(self) -> None:
        self._opened = self._arrived = self.clock.now_ns()
        self._last = None
        self.source.open()

    def due_ns(self) -> int:
        """Return when the next one arrives."""
        due = self.source.due_ns()
        late = self.plan.delay_ns if self._now(self.plan.delay, due) else 0
        return max(due + late, self._arrived)  # none overtakes the one before

    def grab(self) -> Frame | None:
        arrival = self.due_ns()
        self.clock.sleep_until_ns(arrival)
        death = self.plan.death_ns
        if death is not None and arrival - self._opened >= death:
            raise OSError(f"camera {self.spec.name!r} was unplugged")
        self._arrived = arrival
        taken = self.source.due_ns()
        frame = self.source.grab()
        if frame is None or self._now(self.plan.drop, taken):
            return None
        if self._now(self.plan.freeze, taken) and self._last is not None:
            frame = self._last
        elif self._now(self.plan.black, taken):
            frame = replace(frame, image=np.zeros_like(frame.image))
        self._last = frame
        return replace(frame, stamp_ns=arrival)

    def close(self) -> None:
        self.source.close()

    def _now(self, spans: Sequence[Span], moment: int) -> bool:
        return any(start <= moment - self._opened < end for start, end in spans)
